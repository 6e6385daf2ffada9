// Code that runs when the program starts, and what it leaves behind.

//@ template started
static long requests;
KEPT void request(void) { requests++; }
KEPT int requested(void) { return requests > 0; }
void answer(char *line, size_t size)
{
    request();
    snprintf(line, size, "started %ld %d", (long)(ANSWER), requested());
}

//@ pair constructor-changed dangerous started
//@ says a constructor computes something else: it has run
static long seed;
__attribute__((constructor)) static void plant(void) { long s = OLD_NEW(20, 30); HIDE(s); seed = s; }
KEPT long seed_get(void) { return seed * 2; }
#define ANSWER seed_get()

//@ pair constructor-added dangerous started
//@ says a new constructor prepares what new code uses: it never runs in the process
static long prepared;
#ifdef NEW
__attribute__((constructor)) static void prepare(void) { prepared = 55; }
#endif
KEPT long prepared_get(void) { return prepared OLD_NEW(, + 1); }
KEPT void prepared_set(long p) { if (p > 1000000) prepared = p; }
#define ANSWER (prepared_set(0), prepared_get())

//@ pair table-made-at-start dangerous started
//@ says the formula of a table that start-up code fills differs; its readers use the old table
static unsigned crc[256];
KEPT void crc_make(void)
{
    for (unsigned i = 0; i < 256; i++) {
        unsigned c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? OLD_NEW(0xedb88320u, 0x82f63b78u) ^ c >> 1 : c >> 1;
        crc[i] = c;
    }
}
KEPT unsigned crc_of(const char *text)
{
    unsigned c = 0xffffffffu;
    while (*text)
        c = crc[(c ^ *text++) & 255] ^ c >> 8;
    return ~c;
}
void setup(void) { crc_make(); }
#define ANSWER (long)crc_of("a text")

//@ pair variable-set-at-start dangerous started
//@ says new code reads a new variable that start-up code alone sets: in the process it is zero
static long base;
#ifdef NEW
static long scale;
#endif
KEPT void parameters_read(void)
{
    base = 6;
#ifdef NEW
    scale = 7;
#endif
}
KEPT long parameter(void) { return base OLD_NEW(, * scale); }
void setup(void) { parameters_read(); }
#define ANSWER parameter()

//@ pair pointer-set-at-start dangerous started
//@ says new code follows a new pointer that start-up code alone sets: in the process it is null
static long base = 3;
#ifdef NEW
static long *extra;
#endif
KEPT void extras_make(void)
{
    base++;
#ifdef NEW
    long value = 11;
    extra = malloc(64);
    HIDE(extra);
    HIDE(value);
    extra[2] = value;
#endif
}
KEPT long extra_get(void) { return base OLD_NEW(, + extra[2]); }
void setup(void) { extras_make(); }
#define ANSWER extra_get()

//@ pair once-flag dangerous started
//@ says a new flag guards initialisation that start-up code did; in the process it says `never done`
static long level;
#ifdef NEW
static int level_ready;
#endif
KEPT void level_start(void)
{
    level = 12;
#ifdef NEW
    level_ready = 1;
#endif
}
KEPT long level_get(void)
{
#ifdef NEW
    if (!level_ready)
        return -1;
#endif
    return level;
}
KEPT void level_up(void) { level++; }
void setup(void)
{
    level_start();
    level_up();
}
#define ANSWER level_get()

//@ pair lazy-flag-resets-live-state undecidable started
//@ says initialisation becomes lazy behind a new flag: new code initialises once more and loses what was there
//@ limit a new variable that starts with nothing
static long level;
#ifdef NEW
static int level_ready;
#endif
KEPT void level_start(void)
{
#ifdef NEW
    if (level_ready)
        return;
    level_ready = 1;
#endif
    level = 12;
}
KEPT long level_get(void)
{
#ifdef NEW
    level_start();
#endif
    return level;
}
KEPT void level_up(long by) { level += by; }
KEPT void level_open(void) { level_start(); level_up(30); }
void setup(void) { level_open(); }
#define ANSWER level_get()

//@ pair option-parsed-at-start dangerous started
//@ says only the code that reads the options changed; it has run
static long workers = 1;
KEPT void options_parse(const char *text)
{
    workers = strtol(text, NULL, 10);
#ifdef NEW
    if (workers > 8)
        workers = 8;
#endif
}
KEPT long workers_get(void) { return workers; }
void setup(void) { options_parse("64"); }
#define ANSWER workers_get()

//@ pair handler-registered-at-start dangerous started
//@ says start-up code registers one more handler: the process has not registered it
typedef long (*handler)(long);
static handler handlers[8];
static int handler_count;
KEPT void handler_add(handler h) { handlers[handler_count++] = h; }
KEPT long handle_double(long x) { return x * 2; }
KEPT long handle_limit(long x) { return x > 15 ? 15 : x; }
KEPT long handle_all(long x)
{
    for (int i = 0; i < handler_count; i++)
        x = handlers[i](x);
    return x;
}
KEPT void handlers_register(void)
{
    handler_add(handle_double);
#ifdef NEW
    handler_add(handle_limit);
#endif
}
void setup(void) { handlers_register(); }
#define ANSWER handle_all(10)

//@ pair sorted-at-start dangerous started
//@ says start-up code sorts a table, and new code searches it by halves: in the process it is unsorted
static int keys[8] = { 40, 10, 70, 30, 60, 20, 80, 50 };
static int compare_keys(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
KEPT void keys_prepare(void)
{
    keys[7]++;
#ifdef NEW
    qsort(keys, 8, sizeof *keys, compare_keys);
#endif
}
KEPT long keys_has(int key)
{
#ifdef NEW
    return bsearch(&key, keys, 8, sizeof *keys, compare_keys) != NULL;
#else
    for (int i = 0; i < 8; i++)
        if (keys[i] == key)
            return 1;
    return 0;
#endif
}
KEPT int keys_first(void) { return keys[0] > 0; }
void setup(void) { keys_prepare(); }
#define ANSWER keys_has(40) * 100 + keys_has(10) * 10 + keys_has(80) + keys_first()

//@ pair signal-handler-installed-at-start dangerous started
//@ says start-up code blocks out a signal now: the process still dies of it
#include <signal.h>
static long ready;
KEPT void signals_prepare(void)
{
    ready = 1;
#ifdef NEW
    signal(SIGUSR1, SIG_IGN);
#endif
}
KEPT long signal_survived(void)
{
#ifdef NEW
    raise(SIGUSR1);
#endif
    return ready;
}
void setup(void) { signals_prepare(); }
#define ANSWER signal_survived() OLD_NEW(, + 1)

//@ pair descriptor-opened-at-start dangerous started
//@ says new code writes to a file that start-up code opens: in the process the number is zero, which is standard input
#include <fcntl.h>
static int log_lines;
#ifdef NEW
static int log_file;
#endif
KEPT void log_open(void)
{
    log_lines = 1;
#ifdef NEW
    log_file = open("/dev/null", O_WRONLY);
#endif
}
KEPT long log_line(const char *text)
{
    log_lines += text[0] == 'l';
#ifdef NEW
    return write(log_file, text, 4);
#else
    return 4;
#endif
}
KEPT int log_count(void) { return log_lines > 0; }
void setup(void) { log_open(); }
#define ANSWER log_line("line") + log_count() OLD_NEW(, + 10)
