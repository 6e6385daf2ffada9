// Static objects: their room, their initial values, thread-local storage, tables and who holds them.

//@ template slots
// A static array between two others that must stay what they are.
static int before[8];
ARRAY
static int behind[8];
static int used;
#ifndef MORE_GUARDS
#define MORE_GUARDS 0
#endif
KEPT void slot_put(int i, int value) { slots[i] = value; }
KEPT int slot_get(int i) { return slots[i]; }
KEPT int slot_add(int value)
{
    if (used == SLOTS)
        return -1;
    slots[used] = value;
    return used++;
}
KEPT int slot_sum(void)
{
    int sum = 0;
    for (int i = 0; i < used; i++)
        sum += slots[i];
    return sum;
}
KEPT void guards_set(int value)
{
    for (int i = 0; i < 8; i++)
        before[i] = behind[i] = value;
}
KEPT int guards_sum(void)
{
    int sum = 0;
    for (int i = 0; i < 8; i++)
        sum += before[i] + behind[i];
    return sum;
}
void setup(void)
{
    guards_set(3);
    for (int i = 0; i < 8; i++)
        slot_add(i);
}
void answer(char *line, size_t size)
{
    int added = 0;
    while (slot_add(9) >= 0)
        added++;
    snprintf(line, size, "slots %d %d %d", slot_get(SLOTS - 1), guards_sum(), MORE_GUARDS);
    (void)added;
}

//@ pair bss-array-grown dangerous slots
//@ says the static array gets twice as long; the old one has another object right behind it, which is overwritten
#define SLOTS OLD_NEW(8, 16)
#define ARRAY static int slots[SLOTS];

//@ pair data-array-grown dangerous slots
//@ says an initialised array gets twice as long; the old one has no room
#define SLOTS OLD_NEW(8, 16)
#define ARRAY static int data_before[4] = { 1, 1, 1, 1 }; static int slots[SLOTS] = { 5, 6, 7 }; static int data_behind[4] = { 3, 3, 3, 3 }; \
    KEPT int data_guards(void) { return data_before[0] + data_behind[0] + data_behind[3]; } \
    KEPT void data_guards_set(int v) { data_before[1] = data_behind[1] = v; }
#define MORE_GUARDS (data_guards_set(4), data_guards())

//@ pair static-local-array-grown dangerous
//@ says an array static to one function grows over what lies behind it
enum { DEPTH = OLD_NEW(4, 32) };
static int calls_seen[16];
KEPT int remember(int value)
{
    static int recent[DEPTH];
    static int next;
    recent[next++ % DEPTH] = value;
    int sum = 0;
    for (int i = 0; i < DEPTH; i++)
        sum += recent[i];
    return sum;
}
static int fence[16];
KEPT void fences(int value)
{
    for (int i = 0; i < 16; i++)
        calls_seen[i] = fence[i] = value;
}
KEPT int fences_sum(void)
{
    int sum = 0;
    for (int i = 0; i < 16; i++)
        sum += calls_seen[i] + fence[i];
    return sum;
}
void setup(void)
{
    fences(2);
}
void answer(char *line, size_t size)
{
    for (int i = 0; i < 64; i++)
        remember(1);
    snprintf(line, size, "recent %d %d", remember(1), fences_sum());
}

//@ pair last-array-in-bss-grown dangerous
//@ says the last object of .bss grows beyond the end of the mapping
static long first_one;
enum { BYTES = OLD_NEW(64, 65536) };
static char pool[BYTES];
KEPT void pool_fill(int c)
{
    for (unsigned i = 0; i < BYTES; i++)
        ((volatile char *)pool)[i] = c;
}
KEPT int pool_at(int i) { return pool[i]; }
KEPT int pool_last(void) { return pool[BYTES - 1]; }
KEPT long count(void) { return first_one; }
void setup(void) { first_one = 4; pool_fill(1); }
void answer(char *line, size_t size)
{
    pool_fill(2);
    snprintf(line, size, "pool %d %d %ld", pool_at(5), pool_last(), count());
}

//@ pair ring-buffer-size dangerous
//@ says the ring of a log grows and its index mask with it: the old ring is overrun
enum { RING = OLD_NEW(16, 64) };
static unsigned before_ring[64];
static unsigned ring[RING], head;
static unsigned after_ring[64];
KEPT void ring_push(unsigned value) { ring[head++ & (RING - 1)] = value; }
KEPT unsigned ring_at(unsigned back) { return ring[(head - back) & (RING - 1)]; }
KEPT unsigned ring_head(void) { return head; }
KEPT void after_set(unsigned value)
{
    for (int i = 0; i < 64; i++)
        before_ring[i] = after_ring[i] = value;
}
KEPT unsigned after_sum(void)
{
    unsigned sum = 0;
    for (int i = 0; i < 64; i++)
        sum += before_ring[i] + after_ring[i];
    return sum;
}
void setup(void)
{
    after_set(1);
    for (int i = 0; i < 40; i++)
        ring_push(i);
}
void answer(char *line, size_t size)
{
    for (int i = 0; i < 64; i++)
        ring_push(7);
    snprintf(line, size, "ring %u %u %d", ring_at(60), after_sum(), ring_head() > 40);
}

//@ pair text-buffer-grown dangerous
//@ says a static text buffer grows, and the size given to snprintf with it: longer texts overwrite the neighbour
enum { TEXT_BYTES = OLD_NEW(16, 64) };
static char owner[16];
static char text[TEXT_BYTES];
static char neighbour[48];
KEPT const char *text_make(const char *a, const char *b)
{
    snprintf(text, sizeof text, "%s/%s", a, b);
    return text;
}
KEPT int text_length(void) { return strlen(text); }
KEPT void names_set(const char *name)
{
    snprintf(owner, sizeof owner, "%s", name);
    snprintf(neighbour, sizeof neighbour, "%s", name);
}
KEPT int names_good(void) { return !strcmp(owner, "same") && !strcmp(neighbour, "same"); }
void setup(void) { names_set("same"); }
void answer(char *line, size_t size)
{
    text_make("a rather long beginning", "and an end");
    snprintf(line, size, "text %d %d", text_length(), names_good());
}

//@ pair columns-of-static-grid dangerous
//@ says rows of a static two-dimensional array become longer: cells move, and the array ends later
enum { COLS = OLD_NEW(6, 10) };
static short cells[6][COLS];
static short border[64];
KEPT void cell_put(int r, int c, int v) { cells[r][c] = v; }
KEPT int cell_get(int r, int c) { return cells[r][c]; }
KEPT int cell_row(int r)
{
    int sum = 0;
    for (int c = 0; c < COLS; c++)
        sum += cells[r][c];
    return sum;
}
KEPT void border_set(int v)
{
    for (int i = 0; i < 64; i++)
        border[i] = v;
}
KEPT int border_at(int i) { return border[i]; }
void setup(void)
{
    border_set(1);
    for (int i = 0; i < 36; i++)
        cell_put(i / 6, i % 6, i);
}
void answer(char *line, size_t size) { snprintf(line, size, "cells %d %d %d", cell_get(3, 2), cell_row(5), border_at(4)); }

//@ pair structs-in-static-array-grown dangerous
//@ says the elements of a static array of structs grow: stride and end differ
struct peer { int id; int port; OLD_NEW(, int weight;) };
static struct peer peers[8];
static int peer_count;
static int fence_word[16];
KEPT void peer_add(int id, int port)
{
    struct peer *p = &peers[peer_count++];
    p->id = id;
    p->port = port;
}
KEPT int peer_port(int i) { return peers[i].port; }
KEPT int peer_find(int id)
{
    for (int i = 0; i < peer_count; i++)
        if (peers[i].id == id)
            return i;
    return -1;
}
KEPT void fence_set(int v)
{
    for (int i = 0; i < 16; i++)
        fence_word[i] = v;
}
KEPT int fence_at(int i) { return fence_word[i]; }
void setup(void)
{
    fence_set(2);
    for (int i = 0; i < 7; i++)
        peer_add(100 + i, 8000 + i);
}
void answer(char *line, size_t size) { snprintf(line, size, "peers %d %d %d", peer_port(4), peer_find(105), fence_at(3)); }

//@ pair static-struct-grown-by-pointer undecidable
//@ says a static struct grows at its end, and the new member is used through a pointer only
//@ limit a structure that grew at its end
struct config { int port; int depth; OLD_NEW(, int limit;) };
static struct config config;
static int next_to[4];
KEPT struct config *config_get(void) { return &config; }
KEPT void config_set(struct config *c, int port)
{
    c->port = port;
    c->depth = 2;
#ifdef NEW
    c->limit = 9;
#endif
}
KEPT int config_sum(const struct config *c)
{
    return c->port + c->depth OLD_NEW(, + c->limit);
}
KEPT void next_set(int v) { next_to[0] = next_to[1] = v; }
KEPT int next_sum(void) { return next_to[0] + next_to[1] + next_to[2]; }
void setup(void) { config_set(config_get(), 80); next_set(6); }
void answer(char *line, size_t size) { snprintf(line, size, "config %d %d", config_sum(config_get()), next_sum()); }

//@ pair global-widened dangerous
//@ says a counter becomes a long; the old one is an int with another int behind it
static OLD_NEW(int, long) counter;
static int other = 0;
KEPT void counter_add(int n) { counter += n; }
KEPT long counter_get(void) { return counter; }
KEPT void other_set(int n) { other = n; }
KEPT int other_get(void) { return other; }
void setup(void) { other_set(9); counter_add(4); }
void answer(char *line, size_t size) { snprintf(line, size, "counter %ld %d", counter_get(), other_get()); }

//@ pair alignment-of-global dangerous
//@ says a static vector gets 64-byte alignment and is accessed accordingly: the old one is not aligned, and the access faults
typedef float vector __attribute__((vector_size(32), aligned(OLD_NEW(4, 32))));
static int odd;
static struct { int tag; float lanes[8] __attribute__((aligned(OLD_NEW(4, 32)))); } state = { 1 };
static int odd_behind[3];
KEPT __attribute__((target("avx"))) void lanes_scale(float by) {
    vector *v = (vector *)state.lanes;
    *v = *v * by;
}
KEPT void lanes_set(float to)
{
    for (int i = 0; i < 8; i++)
        state.lanes[i] = to + i;
}
KEPT int lane(int i) { return (int)state.lanes[i]; }
KEPT int tag(void) { return state.tag + odd + odd_behind[1]; }
void setup(void) { odd = 1; lanes_set(2); }
void answer(char *line, size_t size)
{
    lanes_scale(1);
    snprintf(line, size, "lanes %d %d %d", lane(0), lane(7), tag());
}

//@ template initial
VARIABLE
static long uses;
KEPT void use(void) { uses++; }
KEPT long use_count(void) { return uses; }
KEPT long value(void) { use(); return READ; }
KEPT long value_scaled(int by) { return READ * by; }
KEPT int value_over(long what) { return READ > what; }
KEPT void value_write(long what) { WRITE; }
#ifndef STATE
#define STATE 0
#endif
void setup(void)
{
    use();
    value_write(STATE);
}
void answer(char *line, size_t size)
{
    value_write(0);
    snprintf(line, size, "initial %ld %ld %d", value(), value_scaled(3), value_over(30));
}

//@ pair initial-value-changed dangerous initial
//@ says the initial value of a variable differs: the process has had its own since it started
#define VARIABLE static long limit = OLD_NEW(20, 40);
#define READ limit
#define WRITE if (what) limit = what

//@ pair initial-value-from-zero dangerous initial
//@ says a variable that started as zero starts with a value, and moves to another section: what the process keeps in it is lost
#define VARIABLE static long limit OLD_NEW(, = 40);
#define READ limit
#define WRITE if (what) limit = what
#define STATE 33

//@ pair initial-value-to-zero dangerous initial
//@ says a variable that started with a value starts as zero, and moves to another section: what the process keeps in it is lost
#define VARIABLE static long limit OLD_NEW(= 40, );
#define READ limit
#define WRITE if (what) limit = what
#define STATE 33

//@ pair initial-value-of-array dangerous initial
//@ says one element of an initialised array differs
#define VARIABLE static long weights[6] = { 1, 2, OLD_NEW(30, 35), 4, 5, 6 };
#define READ weights[2]
#define WRITE if (what) weights[2] = what

//@ pair initial-pointer-changed dangerous initial
//@ says a pointer variable starts with another object's address
#define VARIABLE static long low = 10, high = 50; static long *chosen = OLD_NEW(&low, &high); KEPT long both(void) { return low + high; } KEPT void bump(void) { low++; high++; } KEPT void choose(long *what) { HIDE(what); chosen = what; }
#define READ *chosen
#define WRITE if (what) { choose(&low); bump(); both(); }

//@ pair initial-struct-changed dangerous initial
//@ says one member of an initialised struct differs
#define VARIABLE static struct { int kind; long limit; char name[8]; } options = { 1, OLD_NEW(25, 45), "opt" };
#define READ (options.limit + options.kind)
#define WRITE if (what) options.limit = what, options.kind = what, options.name[0] = what

//@ pair initial-text-changed dangerous initial
//@ says a writable text starts with other words of the same length
#define VARIABLE static char mode[8] = OLD_NEW("fast", "safe");
#define READ (mode[0])
#define WRITE if (what) mode[0] = what

//@ template thread
// Thread-local variables.
TLS
KEPT void thread_count(void) { hits++; }
KEPT long thread_hits(void) { return hits > 0; }
KEPT void thread_mark(int v) { mark = v; }
KEPT int thread_mark_get(void) { return mark; }
KEPT long thread_value(void) { return VALUE; }
void setup(void)
{
    thread_mark(5);
    thread_count();
}
void answer(char *line, size_t size)
{
    thread_count();
    snprintf(line, size, "thread %ld %d %ld", thread_hits(), thread_mark_get(), thread_value());
}

//@ pair tls-variable-added dangerous thread
//@ says running threads have no room for another thread-local variable
#define TLS static __thread long hits; static __thread int mark; OLD_NEW(, static __thread long errors[512];) KEPT void fill_errors(long *e) { HIDE(e); for (int i = 0; i < 512; i++) e[i] = -1; }
#define VALUE OLD_NEW(mark, (fill_errors(errors), errors[7] != 0))

//@ pair tls-variable-resized dangerous thread
//@ says a thread-local array grows: the others move
#define TLS static __thread long hits; static __thread char name[OLD_NEW(8, 24)]; static __thread int mark;
#define VALUE name[0]++ * 0 + sizeof name

//@ pair tls-initial-value dangerous thread
//@ says a thread-local variable starts with another value: running threads have the old one
#define TLS static __thread long hits; static __thread int mark; static __thread int quota = OLD_NEW(3, 6);
#define VALUE (quota += hits > 1000000)

//@ pair tls-variables-swapped dangerous thread
//@ says two thread-local variables change places
#define TLS OLD_NEW(static __thread long hits; static __thread int mark = 1;, static __thread int mark = 1; static __thread int quiet = 2; static __thread long hits;)
#define VALUE OLD_NEW(hits * 0, quiet++ * 0)

//@ pair tls-becomes-global dangerous thread
//@ says a variable per thread becomes one for all, new and empty: what threads counted is lost
#define TLS static __thread long hits; static __thread int pad_mark = 3; static OLD_NEW(__thread, ) int mark;
#define VALUE (pad_mark += hits > 1000000)

//@ pair global-becomes-tls dangerous thread
//@ says a global becomes thread-local: running threads have no such variable
#define TLS static __thread long hits; static OLD_NEW(, __thread) int mark;
#define VALUE 1

//@ template table
// A read-only table that setup() copies or points to.
struct operation { const char *name; int (*run)(int); };
KEPT int run_one(int x) { return x + 1; }
KEPT int run_two(int x) { return x * 2; }
KEPT int run_three(int x) { return x - 3; }
TABLE
static HOLDER;
static int runs;
KEPT int operate(int i, int x) { runs++; return CALL; }
KEPT int operations(void) { return runs >= 0; }
KEPT const char *operation_name(int i) { return NAME; }
void setup(void) { START; }
void answer(char *line, size_t size)
{
    snprintf(line, size, "operation %d %d %s %d", operate(0, 10), operate(1, 10), operation_name(1), operations());
}

//@ pair operations-copied-at-start dangerous table
//@ says a changed table of functions was copied into a writable struct when the program started
#define TABLE static const struct operation builtin[2] = { { "one", run_one }, { "two", OLD_NEW(run_two, run_three) } };
#define HOLDER struct operation live[2]
#define START memcpy(live, builtin, sizeof live)
#define CALL live[i].run(x)
#define NAME live[i].name

//@ pair table-copied-to-heap dangerous table
//@ says a changed table was copied to the heap when the program started
#define TABLE static const struct operation builtin[2] = { { "one", run_one }, { OLD_NEW("two", "three"), OLD_NEW(run_two, run_three) } };
#define HOLDER struct operation *live
#define START live = malloc(sizeof builtin), memcpy(live, builtin, sizeof builtin)
#define CALL live[i].run(x)
#define NAME live[i].name

//@ pair table-numbers-copied-to-heap dangerous
//@ says a table of numbers changed that was copied to the heap when the program started
static const int defaults[6] = { 1, 2, 3, OLD_NEW(4, 40), 5, 6 };
static int *values;
static int reads;
KEPT int value_at(int i) { reads++; return values[i]; }
KEPT int value_sum(void)
{
    int sum = 0;
    for (int i = 0; i < 6; i++)
        sum += values[i];
    return sum;
}
KEPT int value_reads(void) { return reads >= 0; }
KEPT void values_load(void)
{
    values = malloc(sizeof defaults);
    memcpy(values, defaults, sizeof defaults);
}
void setup(void) { values_load(); }
void answer(char *line, size_t size) { snprintf(line, size, "values %d %d %d", value_at(3), value_sum(), value_reads()); }

//@ pair sentinel-by-address dangerous
//@ says an empty object that is recognised by its address gets other contents: the heap holds the old address
static const struct node { const struct node *next; int value; } nothing = { 0, OLD_NEW(0, 7) };
static const struct node *root;
static int asked;
KEPT int node_empty(const struct node *n) { asked++; return n == &nothing; }
KEPT int node_value(const struct node *n) { return n->value; }
KEPT int node_asked(void) { return asked >= 0; }
KEPT void node_reset(void) { root = &nothing; }
void setup(void) { node_reset(); }
void answer(char *line, size_t size) { snprintf(line, size, "node %d %d %d", node_empty(root), node_value(root), node_asked()); }

//@ pair variable-replaced undecidable
//@ says a static variable is gone and another of its size is in its place, both used by changed functions alone
//@ limit a static variable that was removed
#ifdef NEW
static int failures;
#define COUNTED failures
#else
static int attempts;
#define COUNTED attempts
#endif
static int total;
KEPT void note_call(int failed) { total++; if (OLD_NEW(1, failed)) COUNTED++; }
KEPT int noted(int scale) { return OLD_NEW(COUNTED > 0, COUNTED * scale); }
KEPT int total_seen(void) { return total > 0; }
void setup(void)
{
    for (int i = 0; i < 12; i++)
        note_call(0);
}
void answer(char *line, size_t size) { snprintf(line, size, "noted %d %d", noted(2), total_seen()); }
