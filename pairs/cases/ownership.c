// Who allocates, who frees, who locks, with which size: contracts between functions over objects that live on.

//@ template named
// Objects with a name on the heap or elsewhere.
struct named { char *name; long value; struct named *next; };
static struct named *list;
static int made;
KEPT struct named *named_new(char *name, long value)
{
    struct named *n = malloc(sizeof *n);
    n->name = TAKE(name);
    n->value = value;
    n->next = list;
    list = n;
    made++;
    return n;
}
KEPT void named_rename(struct named *n, char *name)
{
    DROP(n->name);
    n->name = TAKE(name);
}
KEPT long named_total(void)
{
    long total = 0;
    for (struct named *n = list; n; n = n->next)
        total += n->value + strlen(n->name);
    return total;
}
KEPT struct named *named_find(const char *name)
{
    struct named *n = list;
    while (n && strcmp(n->name, name))
        n = n->next;
    return n;
}
KEPT long named_value(const struct named *n) { return n ? n->value : -1; }
KEPT int named_count(void) { return made; }
static char first[16] = "first", second[16] = "second";
void setup(void)
{
    named_new(first, 1);
    named_new(second, 2);
}
void answer(char *line, size_t size)
{
    struct named *n = named_find("second");
    named_rename(n, second);
    snprintf(line, size, "named %ld %ld of %d", named_total(), named_value(n), named_count());
}

//@ pair ownership-strdup-added dangerous named
//@ says names are copied and freed now: old names lie in static memory, and free() aborts
#define TAKE(name) OLD_NEW(name, strdup(name))
#define DROP(name) OLD_NEW((void)0, free(name))

//@ pair free-added-in-rename dangerous named
//@ says rename frees the old name; names given before were not on the heap
static char *text_copy(char *to, const char *from)
{
    for (char *p = to; (*p = *from); p++, from++)
        ;
    return to;
}
#define TAKE(name) OLD_NEW(name, text_copy(malloc(32), name))
#define DROP(name) OLD_NEW((void)0, free(name))

//@ pair free-moved-to-another-function dangerous
//@ says release() frees the buffer and close() no longer does: a buffer released before and closed after is lost, and the reverse is freed twice
struct stream { char *buffer; int released; int used; };
static struct stream *stream;
static int closes;
KEPT struct stream *stream_open(void)
{
    struct stream *s = calloc(1, sizeof *s);
    s->buffer = malloc(100);
    s->used = 1;
    return s;
}
KEPT void stream_release(struct stream *s)
{
    s->released = 1;
    s->used = 0;
#ifndef NEW
    free(s->buffer);
#endif
}
KEPT int stream_close(struct stream *s)
{
    closes++;
    if (s->released == 1) {
#ifdef NEW
        free(s->buffer);
#endif
        s->released = 2;
    }
    return s->released;
}
KEPT int stream_used(const struct stream *s) { return s->used; }
KEPT int stream_closes(void) { return closes > 0; }
void setup(void)
{
    stream = stream_open();
    stream_release(stream);
}
void answer(char *line, size_t size)
{
    int closed = stream_close(stream);
    snprintf(line, size, "stream %d %d %d", closed, stream_used(stream), stream_closes());
}

//@ pair allocator-swapped dangerous
//@ says blocks come from mmap and go back with munmap: blocks of malloc do not, and the call fails
#include <sys/mman.h>
struct block { long bytes; long owner; };
static struct block *blocks[4];
static int allocated;
KEPT struct block *block_new(long bytes)
{
#ifdef NEW
    struct block *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#else
    struct block *b = malloc(4096);
#endif
    b->bytes = bytes;
    allocated++;
    return b;
}
KEPT int block_free(struct block *b)
{
    allocated--;
#ifdef NEW
    return munmap(b, 4096);
#else
    free(b);
    return 0;
#endif
}
KEPT long block_bytes(const struct block *b) { return b->bytes; }
KEPT int block_count(void) { return allocated; }
void setup(void)
{
    blocks[0] = block_new(10);
    blocks[1] = block_new(20);
}
void answer(char *line, size_t size)
{
    int status = 0;
    if (blocks[0]) {
        status = block_free(blocks[0]);
        if (status == 0)
            blocks[0] = NULL;
    }
    snprintf(line, size, "blocks %d %ld %d", status, block_bytes(blocks[1]), block_count() < 2);
}

//@ template sized
// A buffer on the heap, made at start, filled by every request.
#ifndef SIZE
#define SIZE "64"
#endif
static char *buffer;
static long filled;
KEPT void buffer_make(void) { buffer = MAKE; }
KEPT void buffer_fill(int c) { FILL; filled++; }
KEPT int buffer_at(int i) { return buffer[i]; }
KEPT int buffer_length(void) { return strlen(buffer); }
KEPT int buffer_filled(void) { return filled > 0; }
static char *fence;
KEPT void fence_make(void) { fence = malloc(200); memset(fence, 'f', 200); }
KEPT int fence_good(void)
{
    int good = 0;
    for (int i = 0; i < 200; i++)
        good += fence[i] == 'f';
    return good;
}
void setup(void)
{
    buffer_make();
    fence_make();
    buffer_fill('a');
}
void answer(char *line, size_t size)
{
    buffer_fill('b');
    snprintf(line, size, "buffer %d %d %d %d", buffer_at(3), buffer_length(), fence_good(), buffer_filled());
}

//@ pair allocation-size dangerous sized
//@ says the buffer gets larger, and what is written to it with it: the buffer of the process is overrun
#define MAKE calloc(1, OLD_NEW(64, 160))
#define FILL memset(buffer, c, OLD_NEW(63, 159))

//@ pair calloc-count dangerous sized
//@ says the number of elements handed to calloc differs, and the loop over them
#define MAKE calloc(OLD_NEW(8, 20), 8)
#define FILL for (int i = 0; i < OLD_NEW(7, 19); i++) memset(buffer + i * 8, c, 8)

//@ pair memset-size dangerous sized
//@ says a larger size is handed to memset; the buffer's size comes from a setting that was read at start
#define SIZE OLD_NEW("64", "160")
#define MAKE calloc(1, strtol(SIZE, NULL, 10))
#define FILL memset(buffer, c, OLD_NEW(60, 120)), buffer[60] = 0

//@ pair memcpy-size dangerous sized
//@ says more bytes are copied into a buffer whose size comes from a setting that was read at start
static const char source[160] = "a source of one hundred and sixty bytes that is copied into the buffer, which had sixty-four of them when it was made and no more than that, really";
#define SIZE OLD_NEW("64", "160")
#define MAKE malloc(strtol(SIZE, NULL, 10))
#define FILL memcpy(buffer, source, OLD_NEW(60, 140)), buffer[59 + (c > 0)] = 0

//@ pair own-allocator dangerous
//@ says the size handed to the program's own allocator differs: old objects are shorter
struct item { long id; OLD_NEW(, long extra[2];) };
static char *arena;
static unsigned long arena_used;
static struct item *items[3];
KEPT void *arena_take(unsigned long bytes)
{
    char *p = arena + arena_used;
    arena_used += bytes;
    return p;
}
KEPT struct item *item_new(long id)
{
    struct item *item = arena_take(sizeof *item);
    item->id = id;
    return item;
}
KEPT long item_id(const struct item *i) { return i->id; }
KEPT void item_touch(struct item *i)
{
#ifdef NEW
    i->extra[0] = i->extra[1] = 77;
#endif
    i->id += 0;
}
void setup(void)
{
    arena = calloc(1, 4096);
    for (int i = 0; i < 3; i++)
        items[i] = item_new(i + 1);
}
void answer(char *line, size_t size)
{
    item_touch(items[0]);
    snprintf(line, size, "items %ld %ld %ld", item_id(items[0]), item_id(items[1]), item_id(items[2]));
}

//@ pair pool-element-size dangerous
//@ says a pool hands out elements of another size: its free list still has the old ones
enum { ELEMENT = OLD_NEW(16, 48) };
static char pool[4096];
static void *free_list;
static char *taken;
KEPT void pool_make(void)
{
    for (unsigned i = 0; i + ELEMENT <= sizeof pool; i += ELEMENT) {
        *(void **)(pool + i) = free_list;
        free_list = pool + i;
    }
}
KEPT void *pool_take(void)
{
    void *p = free_list;
    free_list = *(void **)p;
    return p;
}
KEPT void pool_give(void *p)
{
    *(void **)p = free_list;
    free_list = p;
}
KEPT int pool_write(char *p)
{
    memset(p, 'x', ELEMENT);
    return p[ELEMENT - 1];
}
KEPT void taken_set(const char *text) { strcpy(taken, text); }
KEPT int taken_good(void) { return strcmp(taken, "kept") == 0; }
void setup(void)
{
    pool_make();
    taken = pool_take();
    taken_set("kept");
}
void answer(char *line, size_t size)
{
    void *p = pool_take();
    int wrote = pool_write(p);
    pool_give(p);
    snprintf(line, size, "pool %d %d", wrote, taken_good());
}

//@ pair lock-moved-between-functions dangerous
//@ says begin() takes the lock now and finish() gives it back: a request begun before gives back what it has not taken
#define STEP counter += by
#define REQUEST counter_step(by)
#include <pthread.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long counter;
KEPT void counter_step(long by) { STEP; }
KEPT void counter_request(long by) { REQUEST; }
KEPT long counter_value(void) { return counter > 0; }
KEPT int mutex_free(void)
{
    int status = pthread_mutex_trylock(&mutex);
    if (status == 0)
        pthread_mutex_unlock(&mutex);
    return status == 0;
}
static int begun;
KEPT void request_begin(void)
{
    begun++;
#ifdef NEW
    pthread_mutex_lock(&mutex);
#endif
}
KEPT int request_finish(void)
{
    int status = 0;
    begun--;
#ifndef NEW
    pthread_mutex_lock(&mutex);
#endif
    counter += 2;
    status = pthread_mutex_unlock(&mutex);
    return status;
}
KEPT int lock_held(void) { return mutex.__data.__lock; }
KEPT unsigned lock_users(void) { return mutex.__data.__nusers; }
static int finished = -1;
void setup(void) { request_begin(); }
void answer(char *line, size_t size)
{
    if (finished < 0)
        finished = request_finish();
    snprintf(line, size, "lock %d %d %d %u", finished, lock_held(), mutex_free(), lock_users());
}

//@ pair lock-kind-swapped dangerous
//@ says a mutex becomes a read-write lock in the same memory: the process has a mutex there, in use
#include <pthread.h>
static pthread_rwlock_t memory;
static long guarded;
KEPT void lock_make(void)
{
    memset(&memory, 0, sizeof memory);
#ifndef NEW
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init((pthread_mutex_t *)&memory, &kind);
#endif
}
KEPT int lock_take(void) { return OLD_NEW(pthread_mutex_trylock((pthread_mutex_t *)&memory), pthread_rwlock_tryrdlock(&memory)); }
KEPT int lock_give(void) { return OLD_NEW(pthread_mutex_unlock((pthread_mutex_t *)&memory), pthread_rwlock_unlock(&memory)); }
KEPT void guarded_add(long by) { guarded += by; }
KEPT int guarded_any(void) { return guarded > 0; }
static int first_given = -1;
void setup(void)
{
    lock_make();
    lock_take();
}
void answer(char *line, size_t size)
{
    if (first_given < 0)
        first_given = lock_give();
    int took = lock_take();
    guarded_add(1);
    int gave = lock_give();
    snprintf(line, size, "guarded %d %d %d %d", first_given, took, gave, guarded_any());
}

//@ pair lock-order undecidable
//@ says two locks are taken in the other order: a thread that holds one by the old code waits for ever
//@ limit the order in which two locks are taken
#include <pthread.h>
static pthread_mutex_t left = PTHREAD_MUTEX_INITIALIZER, right = PTHREAD_MUTEX_INITIALIZER;
static long moved;
KEPT void transfer(long by)
{
    pthread_mutex_lock(OLD_NEW(&left, &right));
    pthread_mutex_lock(OLD_NEW(&right, &left));
    moved += by;
    pthread_mutex_unlock(OLD_NEW(&right, &left));
    pthread_mutex_unlock(OLD_NEW(&left, &right));
}
KEPT int left_free(void)
{
    int status = pthread_mutex_trylock(&left);
    if (status == 0)
        pthread_mutex_unlock(&left);
    return status == 0;
}
KEPT int right_free(void)
{
    int status = pthread_mutex_trylock(&right);
    if (status == 0)
        pthread_mutex_unlock(&right);
    return status == 0;
}
KEPT int moved_any(void) { return moved > 0; }
void setup(void) { transfer(1); }
void answer(char *line, size_t size)
{
    transfer(1);
    snprintf(line, size, "transfer %d %d %d", left_free(), right_free(), moved_any());
}

//@ pair stream-becomes-descriptor dangerous
//@ says a kept FILE pointer becomes a descriptor number: the pointer's value is taken for a number
#include <fcntl.h>
static long handle;
static int lines;
KEPT void log_open(void) { handle = OLD_NEW((long)fopen("/dev/null", "w"), open("/dev/null", O_WRONLY)); }
KEPT long log_write(const char *text) { lines++; return OLD_NEW((long)fwrite(text, 1, 4, (FILE *)handle), write((int)handle, text, 4)); }
KEPT int log_lines(void) { return lines > 0; }
KEPT int log_isopen(void) { return handle != 0; }
void setup(void) { log_open(); log_write("text"); }
void answer(char *line, size_t size) { snprintf(line, size, "log %ld %d %d", log_write("text"), log_lines(), log_isopen()); }

//@ pair reference-count-added dangerous
//@ says an unused member counts references now: objects made before have none and are freed at the first release
struct shared { long value; long references; char text[16]; };
static struct shared *shared;
static int freed;
KEPT struct shared *shared_new(long value)
{
    struct shared *s = calloc(1, sizeof *s);
    s->value = value;
#ifdef NEW
    s->references = 2;
#endif
    return s;
}
KEPT void shared_release(struct shared *s)
{
#ifdef NEW
    if (--s->references <= 0) {
        freed++;
        free(s);
    }
#else
    s->value += 0;
#endif
}
KEPT long shared_value(const struct shared *s) { return s->value; }
KEPT int shared_freed(void) { return freed; }
void setup(void) { shared = shared_new(5); }
static int asked;
void answer(char *line, size_t size)
{
    if (asked++ == 1)
        shared_release(shared);
    snprintf(line, size, "shared %ld %d", shared_value(shared) & 15, shared_freed());
}

//@ pair descriptor-closed-elsewhere dangerous
//@ says the reader closes the file and the owner no longer does: one that was read before is never closed
#include <fcntl.h>
struct source { int file; int done; };
static struct source *source;
static int reads;
KEPT struct source *source_open(void)
{
    struct source *s = calloc(1, sizeof *s);
    s->file = open("/dev/null", O_RDONLY);
    return s;
}
KEPT void source_read(struct source *s)
{
    reads++;
    s->done = 1;
#ifndef NEW
    close(s->file);
#endif
}
KEPT int source_finish(struct source *s)
{
    int status = s->done;
#ifdef NEW
    if (s->file >= 0)
        status += close(s->file);
    s->file = -1;
#endif
    return status;
}
KEPT int source_reads(void) { return reads > 0; }
KEPT int source_done(const struct source *s) { return s->done; }
static int status = -9;
void setup(void)
{
    source = source_open();
    source_read(source);
}
void answer(char *line, size_t size)
{
    if (status == -9)
        status = source_finish(source);
    snprintf(line, size, "source %d %d %d", status, source_done(source), source_reads());
}
