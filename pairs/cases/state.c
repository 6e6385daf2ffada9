// Meaning of values that live on: constants stored before the switch and compared after it.

//@ template machine
// A connection whose state is kept in one member, on the heap.
struct machine { long id; unsigned state; unsigned flags; struct machine *next; };
static struct machine *machines;

KEPT struct machine *machine_new(long id)
{
    struct machine *m = calloc(1, sizeof *m);
    m->id = id;
    START(m);
    m->next = machines;
    machines = m;
    return m;
}
KEPT struct machine *machine_find(long id)
{
    struct machine *m = machines;
    while (m && m->id != id)
        m = m->next;
    return m;
}
KEPT int machine_count(void)
{
    int count = 0;
    for (struct machine *m = machines; m; m = m->next)
        count++;
    return count;
}
KEPT long machine_ids(void)
{
    long ids = 0;
    for (struct machine *m = machines; m; m = m->next)
        ids = ids * 10 + m->id;
    return ids;
}
KEPT int machine_ready(const struct machine *m) { return READY(m); }
KEPT void machine_advance(struct machine *m) { ADVANCE(m); }
KEPT const char *machine_text(const struct machine *m) { return TEXT(m); }
void setup(void)
{
    machine_new(1);
    machine_advance(machine_new(2));
    machine_new(3);
}
void answer(char *line, size_t size)
{
    struct machine *m = machine_find(2);
    snprintf(line, size, "machine %d %s %s of %d: %ld", machine_ready(m), machine_text(m), machine_text(machine_find(1)), machine_count(), machine_ids());
}

//@ pair enum-renumbered dangerous machine
//@ says a state in front renumbers the others: connections opened before are taken for being in another state
enum { OLD_NEW(OPENING, UNBOUND), OLD_NEW(READY_STATE, OPENING), OLD_NEW(CLOSED, READY_STATE) };
#define START(m) m->state = OPENING + 5
#define READY(m) (m->state == READY_STATE + 5)
#define ADVANCE(m) if (m->state == OPENING + 5) m->state = READY_STATE + 5
#define TEXT(m) (m->state == READY_STATE + 5 ? "ready" : m->state == OPENING + 5 ? "opening" : "other")

//@ pair enum-values-swapped dangerous machine
//@ says two states change numbers
enum { OPENING = OLD_NEW(11, 12), READY_STATE = OLD_NEW(12, 11) };
#define START(m) m->state = OPENING
#define READY(m) (m->state == READY_STATE)
#define ADVANCE(m) m->state = READY_STATE
#define TEXT(m) (m->state == READY_STATE ? "ready" : "opening")

//@ pair flag-bit-moved dangerous machine
//@ says a flag gets another bit: flags set before are not seen
enum { VERIFIED = OLD_NEW(4, 16) };
#define START(m) m->flags = 1
#define READY(m) ((m->flags & VERIFIED) != 0)
#define ADVANCE(m) m->flags |= VERIFIED
#define TEXT(m) (m->flags & VERIFIED ? "verified" : "plain")

//@ pair flag-bits-swapped dangerous machine
//@ says two flags change bits: what was set as one is read as the other
enum { VERIFIED = OLD_NEW(4, 8), DENIED = OLD_NEW(8, 4) };
#define START(m) m->flags = DENIED
#define READY(m) ((m->flags & VERIFIED) != 0 && !(m->flags & DENIED))
#define ADVANCE(m) m->flags = VERIFIED
#define TEXT(m) (m->flags & DENIED ? "denied" : "allowed")

//@ pair state-numbers dangerous machine
//@ says the handshake counts in tens: the ready state of old connections is below the new threshold
#define START(m) m->state = OLD_NEW(1, 10)
#define READY(m) (m->state >= OLD_NEW(2, 20))
#define ADVANCE(m) m->state = OLD_NEW(2, 20)
#define TEXT(m) (m->state == OLD_NEW(2, 20) ? "ready" : "opening")

//@ pair state-in-a-switch dangerous machine
//@ says states of a switch with a jump table are renumbered
enum { S_A = OLD_NEW(0, 5), S_B = OLD_NEW(1, 4), S_C = 2, S_D = 3, S_E = OLD_NEW(4, 1), S_F = OLD_NEW(5, 0) };
#define START(m) m->state = S_A
#define READY(m) (m->state == S_E)
#define ADVANCE(m) m->state = S_E
static const char *state_name(unsigned state)
{
    switch (state) {
    case S_A: return "a";
    case S_B: return "b";
    case S_C: return "c";
    case S_D: return "d";
    case S_E: return "e";
    case S_F: return "f";
    }
    return "?";
}
#define TEXT(m) state_name(m->state)

//@ pair magic-number dangerous machine
//@ says objects carry a magic number that is checked: old objects have the old one and are rejected
enum { MAGIC = OLD_NEW(0x51f15eed, 0x51f15eee) };
#define START(m) m->state = MAGIC
#define READY(m) (m->state == MAGIC)
#define ADVANCE(m) m->flags++
#define TEXT(m) (m->state == MAGIC ? "good" : "corrupt")

//@ pair marker-of-unset dangerous machine
//@ says the marker for `not set` changes from 0xffffffff to 0: old objects look set
enum { UNSET = OLD_NEW(-1, 0) };
#define START(m) m->state = UNSET, m->flags = UNSET
#define READY(m) (m->state != (unsigned)UNSET)
#define ADVANCE(m) m->state = 6
#define TEXT(m) (m->flags == (unsigned)UNSET ? "unset" : "set")

//@ pair pointer-tag-bit dangerous machine
//@ says the tag in a pointer's low bits moves: old tagged pointers are dereferenced with the tag in
static long payload[4] __attribute__((aligned(16))) = { 1, 2, 3, 4 };
static unsigned long tagged_of(long id);
#define TAG OLD_NEW(1ul, 2ul)
static unsigned long tags[8];
#define START(m) tags[m->id & 7] = (unsigned long)&payload[m->id & 2] | TAG
#define READY(m) ((tags[m->id & 7] & TAG) != 0)
#define ADVANCE(m) m->flags = 3
#define TEXT(m) (*(long *)(tags[m->id & 7] & ~TAG) == 3 ? "three" : "other")

//@ pair global-state-number dangerous
//@ says a global phase is stored and compared with other numbers
enum { IDLE = OLD_NEW(3, 4), RUNNING = OLD_NEW(4, 5) };
static int phase;
static long work_done;
KEPT void phase_start(void) { phase = IDLE; }
KEPT void phase_run(void) { phase = RUNNING; }
KEPT int phase_running(void) { return phase == RUNNING; }
KEPT long work(long amount) { return work_done += amount; }
KEPT long work_so_far(void) { return work_done; }
void setup(void)
{
    phase_start();
    work(12);
    phase_run();
}
void answer(char *line, size_t size) { snprintf(line, size, "phase %d %ld", phase_running(), work_so_far()); }

//@ pair bool-inverted dangerous machine
//@ says `enabled` is stored as `disabled` now: old objects mean the contrary
#define START(m) m->flags = OLD_NEW(1, 0)
#define READY(m) (m->flags == OLD_NEW(1, 0))
#define ADVANCE(m) m->flags = OLD_NEW(0, 1)
#define TEXT(m) (m->flags == OLD_NEW(0, 1) ? "off" : "on")

//@ pair version-in-object dangerous machine
//@ says objects carry a version and the code for old versions is gone
#define START(m) m->state = OLD_NEW(7, 8)
#define READY(m) (m->state == OLD_NEW(7, 8))
#define ADVANCE(m) m->flags = 2
#define TEXT(m) (m->state < OLD_NEW(7, 8) ? "too old" : "fine")

//@ pair key-of-stored-xor dangerous machine
//@ says values are kept masked with a key that changes: what was masked before comes out wrong
#define KEY OLD_NEW(0x5a5a1234u, 0x33cc4321u)
#define START(m) m->state = 5 ^ KEY
#define READY(m) ((m->state ^ KEY) == 6)
#define ADVANCE(m) m->state = 6 ^ KEY
#define TEXT(m) ((m->state ^ KEY) == 5 ? "five" : "other")

//@ pair bit-count-of-packed-fields dangerous machine
//@ says two numbers share a word, split at another bit
#define SHIFT OLD_NEW(8, 12)
#define START(m) m->state = 3 << SHIFT | 7
#define READY(m) (m->state >> SHIFT == 4)
#define ADVANCE(m) m->state = 4 << SHIFT | 9
#define TEXT(m) ((m->state & ((1u << SHIFT) - 1)) == 9 ? "nine" : "other")

//@ pair seconds-become-milliseconds undecidable
//@ says a static deadline is kept in milliseconds now; the old value is read as a thousandth of itself
//@ limit seconds become milliseconds
static long timeout;
static long now_ticks = 50;
KEPT void timeout_set(long seconds) { timeout = seconds * OLD_NEW(1, 1000); }
KEPT int timeout_over(long seconds) { return now_ticks + seconds * OLD_NEW(1, 1000) > timeout + now_ticks; }
KEPT long ticks(void) { return now_ticks; }
void setup(void) { timeout_set(30); }
void answer(char *line, size_t size) { snprintf(line, size, "over %d %d %ld", timeout_over(29), timeout_over(31), ticks()); }

//@ template hashed
// A hash table that is filled before the switch.
struct entry { struct entry *next; long value; char key[24]; };
static struct entry *buckets[64];
static int entries;
KEPT unsigned long hash_of(const char *key)
{
    unsigned long hash = 0;
    while (*key)
        hash = HASH(hash, *key++);
    return hash;
}
KEPT void hash_put(const char *key, long value)
{
    struct entry *e = calloc(1, sizeof *e);
    strcpy(e->key, key);
    e->value = value;
    struct entry **head = &buckets[hash_of(key) BUCKET];
    e->next = *head;
    *head = e;
    entries++;
}
KEPT long hash_get(const char *key)
{
    for (struct entry *e = buckets[hash_of(key) BUCKET]; e; e = e->next)
        if (strcmp(e->key, key) == 0)
            return e->value;
    return -1;
}
KEPT int hash_count(void) { return entries; }
void setup(void)
{
    hash_put("alpha", 10);
    hash_put("beta", 20);
    hash_put("gamma", 30);
    hash_put("delta", 40);
}
void answer(char *line, size_t size)
{
    snprintf(line, size, "hash %ld %ld %ld %ld of %d", hash_get("alpha"), hash_get("beta"), hash_get("gamma"), hash_get("delta"), hash_count());
}

//@ pair hash-function-of-live-table undecidable hashed
//@ says another hash function looks for old entries in other buckets
//@ limit a hash function of a table that
#define HASH(hash, byte) ((hash) * OLD_NEW(31, 33) + (byte))
#define BUCKET % 64

//@ pair hash-bucket-count undecidable hashed
//@ says fewer buckets of the same table are used: old entries lie in others
//@ limit a hash function of a table that
#define HASH(hash, byte) ((hash) * 31 + (byte))
#define BUCKET % OLD_NEW(64, 61)

//@ pair byte-order-of-stored-value undecidable
//@ says a value is kept in network byte order now, by writer and reader alike
//@ limit seconds become milliseconds
#define ORDER(x) OLD_NEW((x), __builtin_bswap32(x))
static unsigned stored, seen;
KEPT void value_store(unsigned value) { stored = ORDER(value); }
KEPT unsigned value_load(void) { return ORDER(stored); }
KEPT unsigned value_seen(void) { return seen++ & 0; }
void setup(void) { value_store(258); }
void answer(char *line, size_t size) { snprintf(line, size, "value %u %u", value_load(), value_seen()); }

//@ pair index-base undecidable
//@ says handles kept by callers count from zero instead of one
//@ limit seconds become milliseconds
static int slots[8] = { 5, 6, 7, 8, 9, 10, 11, 12 };
static int handle;
KEPT int slot_open(int index) { return index + OLD_NEW(1, 0); }
KEPT int slot_value(int h) { return slots[h - OLD_NEW(1, 0)]; }
KEPT int slot_sum(void) { return slots[0] + slots[7]; }
void setup(void) { handle = slot_open(3); }
void answer(char *line, size_t size) { snprintf(line, size, "slot %d %d", slot_value(handle), slot_sum()); }

//@ pair order-of-a-live-list undecidable
//@ says the array is kept in falling order now, and searched accordingly; it was filled in rising order
//@ limit a value that lives on changes its
static int sorted[16];
static int sorted_count;
KEPT void sorted_add(int value)
{
    int i = sorted_count++;
    while (i > 0 && sorted[i - 1] OLD_NEW(>, <) value) {
        sorted[i] = sorted[i - 1];
        i--;
    }
    sorted[i] = value;
}
KEPT int sorted_has(int value)
{
    int low = 0, high = sorted_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (sorted[middle] == value)
            return 1;
        if (sorted[middle] OLD_NEW(<, >) value)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}
KEPT int sorted_size(void) { return sorted_count; }
void setup(void)
{
    for (int i = 0; i < 7; i++)
        sorted_add(i * 37 % 50);
}
void answer(char *line, size_t size) { snprintf(line, size, "sorted %d %d %d", sorted_has(0), sorted_has(37), sorted_size()); }

//@ template sorted_out
// Jobs whose kind is told by a function of its own and kept.
struct job { struct job *next; int kind; long size; };
static struct job *jobs;
KEPT int job_kind(long size) { return KIND(size); }
KEPT void job_new(long size)
{
    struct job *j = calloc(1, sizeof *j);
    j->size = size;
    j->kind = job_kind(size);
    j->next = jobs;
    jobs = j;
}
KEPT long job_sizes(void)
{
    long sizes = 0;
    for (struct job *j = jobs; j; j = j->next)
        sizes += j->size;
    return sizes;
}
KEPT int job_count(void)
{
    int count = 0;
    for (struct job *j = jobs; j; j = j->next)
        count++;
    return count;
}
KEPT long job_price(const struct job *j) { return PRICE(j); }
KEPT long job_prices(void)
{
    long prices = 0;
    for (struct job *j = jobs; j; j = j->next)
        prices += job_price(j);
    return prices;
}
static int begun;
void setup(void)
{
    if (begun)
        return;
    begun = 1;
    job_new(3);
    job_new(50);
    job_new(700);
}
void answer(char *line, size_t size) { snprintf(line, size, "jobs %d %ld %ld", job_count(), job_prices(), job_sizes()); }

//@ pair enum-inserted-told-by-result dangerous sorted_out
//@ says a kind in front renumbers the others; the function that tells a kind returns the numbers, another one keeps them
enum { OLD_NEW(SMALL, FREE), OLD_NEW(MIDDLE, SMALL), OLD_NEW(LARGE, MIDDLE), OLD_NEW(FREE, LARGE) };
#define KIND(size) (size < 10 ? SMALL : size < 100 ? MIDDLE : LARGE)
static long price(int kind, long size)
{
    switch (kind) {
#ifdef NEW
    case FREE: return 100000;
#endif
    case SMALL: return size * 7;
    case MIDDLE: return size / 3 + 20;
    case LARGE: return size - 300;
    }
    return 0;
}
#define PRICE(j) price(j->kind, j->size)

//@ pair enum-inserted-in-table dangerous sorted_out
//@ says a kind in front renumbers the others and gets the first row of a table that is indexed by kinds
enum { OLD_NEW(SMALL, FREE), OLD_NEW(MIDDLE, SMALL), OLD_NEW(LARGE, MIDDLE), OLD_NEW(FREE, LARGE) };
#define KIND(size) (size < 10 ? SMALL : size < 100 ? MIDDLE : LARGE)
#ifdef NEW
static const long price_of[] = { 100000, 7, 20, 300 };
#else
static const long price_of[] = { 7, 20, 300 };
#endif
#define PRICE(j) (price_of[j->kind] + j->size)

//@ pair enum-order-told-by-result dangerous sorted_out
//@ says kinds are sorted anew; the function that tells a kind returns the numbers, another one keeps them
enum { SMALL = OLD_NEW(0, 2), MIDDLE = OLD_NEW(1, 3), LARGE = OLD_NEW(2, 0), HUGE_ONE = OLD_NEW(3, 1) };
KEPT long price_small(long size) { return size * 7; }
KEPT long price_middle(long size) { return size / 3 + 20; }
KEPT long price_large(long size) { return size - 300; }
KEPT long price_huge(long size) { return size * size; }
#define KIND(size) (size < 10 ? SMALL : size < 100 ? MIDDLE : size < 1000 ? LARGE : HUGE_ONE)
static long price(int kind, long size)
{
    switch (kind) {
    case SMALL: return price_small(size);
    case MIDDLE: return price_middle(size);
    case LARGE: return price_large(size);
    case HUGE_ONE: return price_huge(size);
    }
    return 0;
}
#define PRICE(j) price(j->kind, j->size)

//@ pair enum-inserted-told-by-table dangerous sorted_out
//@ says a kind in front renumbers the others; which kind a size is of stands in a table, and the kind is kept
enum { OLD_NEW(SMALL, FREE), OLD_NEW(MIDDLE, SMALL), OLD_NEW(LARGE, MIDDLE), OLD_NEW(FREE, LARGE) };
static int kind_of(long size)
{
    switch (size % 8) {
    case 0: return SMALL;
    case 1: return LARGE;
    case 2: return MIDDLE;
    case 3: return SMALL;
    case 4: return LARGE;
    case 5: return MIDDLE;
    case 6: return LARGE;
    }
    return SMALL;
}
#define KIND(size) kind_of(size)
static long price(int kind, long size)
{
    switch (kind) {
#ifdef NEW
    case FREE: return 100000;
#endif
    case SMALL: return size * 7;
    case MIDDLE: return size / 3 + 20;
    case LARGE: return size - 300;
    }
    return 0;
}
#define PRICE(j) price(j->kind, j->size)

//@ pair enum-added-last-told-by-result harmless sorted_out
//@ says a kind is added behind the others, and sizes that had none before get it
enum { SMALL, MIDDLE, LARGE, VAST };
#define KIND(size) (size < 10 ? SMALL : size < 100 ? MIDDLE : OLD_NEW(LARGE, size > 100000 ? VAST : LARGE))
static long price(int kind, long size)
{
    switch (kind) {
    case SMALL: return size * 7;
    case MIDDLE: return size / OLD_NEW(3, 2) + 20;
    case LARGE: return size - 300;
#ifdef NEW
    case VAST: return 100000;
#endif
    }
    return 0;
}
#define PRICE(j) price(j->kind, j->size)

//@ pair limits-of-kinds-moved harmless sorted_out
//@ says what counts as small changes, for none of the jobs that are there; the numbers of the kinds stay
enum { SMALL, MIDDLE, LARGE };
#define KIND(size) (size < OLD_NEW(10, 40) ? SMALL : size < 100 ? MIDDLE : LARGE)
#define PRICE(j) (j->kind == SMALL ? j->size * OLD_NEW(7, 8) : j->kind == MIDDLE ? 20 : j->size - 300)

//@ pair answers-renumbered-not-kept harmless sorted_out
//@ says answers of a check get other numbers, and all that ask it learn them; what is kept are other numbers
enum { FINE = OLD_NEW(0, 1), LATE = OLD_NEW(1, 2), GONE = OLD_NEW(2, 3) };
KEPT int job_check(long size) { return size < 10 ? FINE : size < 100 ? LATE : GONE; }
#define KIND(size) (size > 600 ? 5 : 9)
#define PRICE(j) (job_check(j->size) == LATE ? 70 : job_check(j->size) == GONE ? 900 : OLD_NEW(4, 5))

//@ template told_texts
// Orders that keep the text of their state as a function with a table of texts told it.
struct order { struct order *next; const char *state; long size; };
static struct order *orders;
KEPT const char *state_text(long size)
{
    static const char *const texts[] = { TEXTS };
    return texts[size % 4];
}
KEPT void order_new(long size)
{
    struct order *o = calloc(1, sizeof *o);
    o->size = size;
    o->state = state_text(size);
    o->next = orders;
    orders = o;
}
KEPT long order_weight(const struct order *o) { return o->state != NULL ? o->size * OLD_NEW(7, 9) : OLD_NEW(1, 2); }
KEPT long order_weights(void)
{
    long weights = 0;
    for (struct order *o = orders; o; o = o->next)
        weights += order_weight(o);
    return weights;
}
KEPT int orders_open(void)
{
    int count = 0;
    for (struct order *o = orders; o; o = o->next)
        count += o->state && o->state[0] == 'o';
    return count;
}
static int begun;
void setup(void)
{
    if (begun)
        return;
    begun = 1;
    order_new(0);
    order_new(5);
    order_new(18);
}
void answer(char *line, size_t size) { snprintf(line, size, "orders %d %ld %s", orders_open(), order_weights(), state_text(3)); }

//@ pair text-told-by-table harmless told_texts
//@ says a text in a table changed; who asks for the text keeps it, and another changed function looks whether there is one
#define TEXTS "new", "open", "on hold", OLD_NEW("closed", "closed for good")
