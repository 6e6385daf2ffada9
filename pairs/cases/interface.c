// What code outside of the image relies on: exported functions and data, callbacks, jumps into the middle.

//@ template lib before
// A small library with state, and programs that use it.
#ifndef PROGRAM
static long calls;
long lib_calls(void) { return calls; }
KEPT long lib_note(long x) { calls++; return x; }
KEPT long lib_scale(long x) { return x * 3 + calls * 0; }
#else
extern long lib_calls(void);
#endif

//@ pair exported-argument-added dangerous lib
//@ says an exported function takes one more argument; programs outside of the update pass two, and the third is what lies in the register
//@ library
KEPT long lib_send(long a, long b OLD_NEW(, , long c)) { return lib_note(a) + b * 2 OLD_NEW(, + (c == 4 ? 1 : 100)); }
//@ program
extern long lib_send(long, long OLD_NEW(, , long)), lib_calls(void);
void answer(char *line, size_t size)
{
    snprintf(line, size, "send %ld %d", lib_send(1, 2 OLD_NEW(, , 4)), lib_calls() >= 0);
}

//@ pair exported-struct-by-value-grown dangerous lib
//@ says a struct passed by value to an exported function grows beyond two registers: it comes on the stack now, and callers outside do not know
struct triple { long a, b; OLD_NEW(, long c;) };
//@ library
KEPT long lib_take(struct triple t) { return lib_note(t.a) + t.b * 10; }
//@ program
extern long lib_take(struct triple), lib_calls(void);
void answer(char *line, size_t size)
{
    struct triple p = { 1, 2 };
    snprintf(line, size, "take %ld %d", lib_take(p), lib_calls() >= 0);
}

//@ pair exported-return-struct-grown dangerous lib
//@ says an exported function returns a larger struct by a hidden pointer, which callers outside do not pass
struct triple { long a, b; OLD_NEW(, long c;) };
//@ library
KEPT struct triple lib_make(long x)
{
    struct triple t = { lib_note(x), x * 2 };
    return t;
}
//@ program
extern struct triple lib_make(long);
extern long lib_calls(void);
void answer(char *line, size_t size)
{
    struct triple p = lib_make(21);
    snprintf(line, size, "make %ld %ld %d", p.a, p.b, lib_calls() >= 0);
}

//@ pair exported-data-grown dangerous lib
//@ says an exported array grows: a program outside has a copy of the old size
extern int lib_table[OLD_NEW(4, 4000)];
//@ library
int lib_table[OLD_NEW(4, 4000)] = { 1, 2, 3, 4 };
KEPT int lib_sum(void)
{
    int sum = 0;
    for (unsigned i = 0; i < sizeof lib_table / sizeof *lib_table; i++)
        sum += lib_table[i];
    return sum;
}
//@ program
extern int lib_sum(void);
void setup(void) { lib_table[0] = 10; }
void answer(char *line, size_t size) { snprintf(line, size, "table %d %d", lib_table[0], lib_sum()); }

//@ pair exported-struct-of-caller-grown undecidable lib
//@ says the library writes a member behind the end of a struct that the program outside allocates
//@ limit a contract between two images
struct options { long a, b; OLD_NEW(, long c;) };
extern void lib_init(struct options *);
extern long lib_use(const struct options *);
//@ library
KEPT void lib_init(struct options *o)
{
    o->a = lib_note(1);
    o->b = 2;
#ifdef NEW
    o->c = 3;
#endif
}
KEPT long lib_use(const struct options *o) { return o->a + o->b; }
//@ program
static struct { struct options o; long fence; } frame = { { 0, 0 }, 9 };
void answer(char *line, size_t size)
{
    lib_init(&frame.o);
    snprintf(line, size, "options %ld %ld", lib_use(&frame.o), frame.fence);
}

//@ pair exported-return-convention undecidable lib
//@ says an exported function returns 0 for success where it returned 1; callers outside still ask for 1
//@ limit a contract between two images
extern int lib_try(long);
//@ library
KEPT int lib_try(long x) { return lib_note(x) > 3 ? OLD_NEW(1, 0) : OLD_NEW(0, -1); }
//@ program
void answer(char *line, size_t size) { snprintf(line, size, "try %s %s", lib_try(5) == OLD_NEW(1, 0) ? "yes" : "no", lib_try(2) == OLD_NEW(1, 0) ? "yes" : "no"); }

//@ pair callback-in-another-unit undecidable lib
//@ says the library hands its callbacks one argument in another unit; the callback is outside of the update
//@ limit a contract between two images
typedef long (*callback)(long);
extern void lib_register(callback);
extern long lib_fire(long);
//@ library
static callback stored;
KEPT void lib_register(callback c) { stored = c; }
KEPT long lib_fire(long seconds) { return stored(lib_note(seconds) * OLD_NEW(1, 1000)); }
//@ program
static long on_fire(long time) { return time / OLD_NEW(1, 1000) + 1; }
void setup(void) { lib_register(on_fire); }
void answer(char *line, size_t size) { snprintf(line, size, "fire %ld", lib_fire(5)); }

//@ pair callback-signature undecidable lib
//@ says the library calls back with one argument more; the callback is outside of the update, and takes the first for another thing
//@ limit a contract between two images
typedef long (*callback)(OLD_NEW(long, void *context, long));
extern void lib_register(callback);
extern long lib_fire(long);
//@ library
static callback stored;
static long context = 3;
KEPT void lib_register(callback c) { stored = c; }
KEPT long lib_fire(long x) { return stored(OLD_NEW(lib_note(x), &context, lib_note(x))); }
//@ program
static long on_fire(OLD_NEW(long x, void *context, long x)) { return x + 1; }
void setup(void) { lib_register(on_fire); }
void answer(char *line, size_t size) { snprintf(line, size, "fire %ld", lib_fire(5)); }

//@ template machine_code before
// A small interpreter.
static int program_text[8] = { 0, 1, 1, 2, 0, 1, 3, 3 };
static int runs_done;
KEPT int op_at(int i) { return program_text[i & 7]; }
KEPT void op_set(int i, int op) { program_text[i & 7] = op; }
KEPT int runs_any(void) { return runs_done >= 0; }

//@ pair computed-goto-labels dangerous machine_code
//@ says threaded code keeps addresses of labels of a function that changed: old addresses lead into the middle of old code
static const void **threaded;
static long interpret(const void **code, int build);
KEPT long interpret(const void **code, int build)
{
    static const void *labels[] = { &&add, &&twice, &&less, &&end };
    long value = 3;
    if (build) {
        for (int i = 0; i < 8; i++)
            code[i] = labels[program_text[i]];
        return 0;
    }
    runs_done++;
    goto **code++;
add:
    value += OLD_NEW(5, 6);
    goto **code++;
twice:
    value = OLD_NEW(value * 2, value * 2 + (value > 1000 ? 7 : 0));
    goto **code++;
less:
    value -= 4;
    goto **code++;
end:
    return value;
}
void setup(void)
{
    threaded = calloc(8, sizeof *threaded);
    interpret(threaded, 1);
}
void answer(char *line, size_t size)
{
    op_set(9, op_at(9));
    snprintf(line, size, "threaded %ld %d", interpret(threaded, 0), runs_any());
}

//@ pair value-becomes-pointer dangerous
//@ says a number in an object becomes a pointer to one: old numbers are taken for addresses
struct cell { long id; OLD_NEW(long, const long *) value; };
static struct cell *cell;
static long sample = 4;
KEPT void sample_set(long x) { sample = x; }
KEPT long sample_get(void) { return sample; }
KEPT long cell_get(const struct cell *c) { return OLD_NEW(c->value, *c->value); }
KEPT long cell_id(const struct cell *c) { return c->id; }
KEPT void cell_set(struct cell *c) { c->value = OLD_NEW(sample, &sample); }
void setup(void)
{
    sample_set(6);
    cell = calloc(1, sizeof *cell);
    cell->id = 2;
    cell_set(cell);
}
void answer(char *line, size_t size) { snprintf(line, size, "cell %ld %ld %ld", cell_get(cell), cell_id(cell), sample_get()); }

//@ pair removed-function-in-heap undecidable
//@ says a function is gone whose address the heap holds, and new code calls what is there with its arguments in another order
//@ limit a function that the new build no longer has
typedef long (*measure)(long, long);
static measure *measures;
static long scale = 2;
KEPT long measure_sum(long x, long y) { return x + y * scale; }
KEPT long measure_difference(long x, long y) { return x - y * scale; }
KEPT long scale_get(void) { return scale; }
KEPT void scale_set(long s) { scale = s; }
#ifdef NEW
KEPT long measure_square(long y, long x) { return x * x + y; }
static measure factory(int i) { return i ? measure_square : measure_sum; }
#else
static measure factory(int i) { return i ? measure_difference : measure_sum; }
#endif
KEPT long measure_run(int i) { return measures[i](5, 3); }
KEPT void measures_make(void)
{
    measures = malloc(2 * sizeof *measures);
    measures[0] = factory(0);
    measures[1] = factory(1);
}
void setup(void)
{
    scale_set(2);
    measures_make();
}
void answer(char *line, size_t size) { snprintf(line, size, "measure %ld %ld %ld", measure_run(0), measure_run(1), scale_get()); }

//@ pair library-function-fixed harmless lib
//@ says an exported function checks its argument; programs outside call it as before
extern long lib_get(long);
//@ library
KEPT long lib_get(long x) { OLD_NEW(, if (x < 0) return -1;) return lib_note(x) * 2; }
//@ program
void answer(char *line, size_t size) { snprintf(line, size, "get %ld %ld %d", lib_get(-4), lib_get(4), lib_calls() >= 0); }

//@ pair library-static-changed harmless lib
//@ says a function inside of the library changes, which two exported ones use
extern long lib_first(long), lib_second(long);
//@ library
KEPT static long inner(long x) { HIDE(x); return x + OLD_NEW(1, 5); }
KEPT long lib_first(long x) { return inner(lib_note(x)); }
KEPT long lib_second(long x) { return inner(x) * lib_scale(2); }
//@ program
void answer(char *line, size_t size) { snprintf(line, size, "library %ld %ld", lib_first(4), lib_second(4)); }

//@ pair library-export-added harmless lib
//@ says the library exports one function more, and an old one uses it
extern long lib_get(long);
//@ library
#ifdef NEW
KEPT long lib_half(long x) { HIDE(x); return x / 2; }
#endif
KEPT long lib_get(long x) { return lib_note(OLD_NEW(x, lib_half(x))) + 1; }
//@ program
void answer(char *line, size_t size) { snprintf(line, size, "get %ld", lib_get(40)); }

//@ pair library-calls-back-once-more harmless lib
//@ says the library calls a callback of the program twice where it called it once
typedef long (*callback)(long);
extern void lib_register(callback);
extern long lib_fire(long);
//@ library
static callback stored;
KEPT void lib_register(callback c) { stored = c; }
KEPT long lib_fire(long x) { return stored(lib_note(x)) OLD_NEW(, + stored(x + 1)); }
//@ program
static long on_fire(long x) { return x * 10; }
void setup(void) { lib_register(on_fire); }
void answer(char *line, size_t size) { snprintf(line, size, "fire %ld", lib_fire(5)); }

//@ pair library-handles-opaque-state harmless lib
//@ says the library checks a handle that it made itself and programs only keep
struct handle;
extern struct handle *lib_open(long);
extern long lib_read(struct handle *, long);
//@ library
struct handle { long size; long at; };
KEPT struct handle *lib_open(long n)
{
    struct handle *h = calloc(1, sizeof *h);
    h->size = lib_note(n);
    h->at = 1;
    return h;
}
KEPT long lib_read(struct handle *h, long at) { OLD_NEW(, if (at >= h->size) return -1;) return at * 2 + h->at; }
//@ program
static struct handle *handle;
void setup(void) { handle = lib_open(10); }
void answer(char *line, size_t size) { snprintf(line, size, "read %ld %ld", lib_read(handle, 4), lib_read(handle, 40)); }
