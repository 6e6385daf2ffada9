// Layout of objects that live on: heap objects made by the old build, used by the new one.

//@ template session
// A server's sessions: a list on the heap, made before the switch. The holes are macros.
#ifndef HEAD
#define HEAD
#endif
#ifndef MIDDLE
#define MIDDLE
#endif
#ifndef TAIL
#define TAIL
#endif
#ifndef TRAFFIC
#define TRAFFIC long sent; long received;
#endif
#ifndef NAME_BYTES
#define NAME_BYTES 16
#endif
#ifndef LIMIT_TYPE
#define LIMIT_TYPE int
#endif
#ifndef SESSION
#define SESSION struct session { HEAD char name[NAME_BYTES]; int state; MIDDLE LIMIT_TYPE limit; TRAFFIC struct session *next; TAIL }
#endif
#ifndef BEGIN
#define BEGIN(s)
#endif
#ifndef CHECK
#define CHECK(s) 0
#endif

SESSION;

static struct session *sessions;
static int session_count;

KEPT struct session *session_open(const char *name, int limit)
{
    struct session *s = malloc(sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", name);
    s->state = 1;
    s->limit = limit;
    s->sent = 3;
    s->received = 5;
    BEGIN(s);
    s->next = sessions;
    sessions = s;
    session_count++;
    return s;
}

KEPT struct session *session_find(const char *name)
{
    struct session *s = sessions;
    while (s && strcmp(s->name, name) != 0)
        s = s->next;
    return s;
}

KEPT void session_account(struct session *s, long sent, long received)
{
    s->sent += sent;
    s->received += received;
}

KEPT long session_ratio(const struct session *s)
{
    return s->received * 10 + s->sent;
}

KEPT int session_may(const struct session *s, int wanted)
{
    return s->state == 1 && wanted <= s->limit;
}

KEPT long session_total(void)
{
    long total = 0;
    for (const struct session *s = sessions; s; s = s->next)
        total += s->sent + s->received * s->limit;
    return total;
}

KEPT int session_states(void)
{
    int states = 0;
    for (const struct session *s = sessions; s; s = s->next)
        states = states * 10 + s->state;
    return states;
}

KEPT long session_check(const struct session *s)
{
    long found = s->state;
    found += CHECK(s);
    return found;
}

void setup(void)
{
    session_account(session_open("alpha", 40), 10, 20);
    session_account(session_open("beta", 50), 30, 40);
    session_account(session_open("gamma", 60), 50, 60);
}

void answer(char *line, size_t size)
{
    struct session *s = session_find("beta");
    if (!s) {
        snprintf(line, size, "session lost");
        return;
    }
    snprintf(line, size, "session %ld %d%d %ld %d %ld of %d", session_ratio(s), session_may(s, 50),
             session_may(s, 51), session_total(), session_states(), session_check(s), session_count);
}

//@ pair member-at-tail dangerous session
//@ says sessions opened before have no room for the member behind the last one: garbage is read from the next chunk
#ifdef NEW
#define TAIL long quota;
#define BEGIN(s) s->quota = 7
#define CHECK(s) s->quota
#endif

//@ pair member-at-tail-unused dangerous session
//@ says the member at the tail is written at each check: it overruns sessions opened before into the next heap chunk
#ifdef NEW
#define TAIL long checked[3];
#define CHECK(s) (((struct session *)s)->checked[2] = 77, malloc_usable_size((void *)s) >= sizeof *s ? 5 : 6)
#endif
extern size_t malloc_usable_size(void *);

//@ pair member-at-head dangerous session
//@ says every member of the sessions opened before is read eight bytes too far
#ifdef NEW
#define HEAD long id;
#define BEGIN(s) s->id = 9
#define CHECK(s) s->id
#endif

//@ pair member-in-middle dangerous session
//@ says limit, traffic and the link of the sessions opened before are read at the wrong place
#ifdef NEW
#define MIDDLE long deadline;
#define BEGIN(s) s->deadline = 9
#define CHECK(s) s->deadline
#endif

//@ pair member-in-middle-only dangerous session
//@ says a member in the middle that nobody uses yet: limit, traffic and link still move
#ifdef NEW
#define MIDDLE long reserved;
#endif

//@ pair member-widened dangerous session
//@ says limit becomes a long: sessions opened before have four bytes of it, and the rest moved
#ifdef NEW
#define LIMIT_TYPE long
#endif

//@ pair long-split-in-two dangerous session
//@ says a long becomes two ints in the same room: the upper half of old values is taken for the second member
#ifdef NEW
#define MIDDLE int soft, hard;
#define BEGIN(s) s->soft = 6, s->hard = 3
#define CHECK(s) (s->soft * 10 + s->hard)
#else
#define MIDDLE long soft;
#define BEGIN(s) s->soft = 6
#define CHECK(s) s->soft
#endif

//@ pair members-swapped dangerous session
//@ says sent and received change places: old sessions have them the other way round
#ifdef NEW
#define TRAFFIC long received; long sent;
#endif

//@ pair member-removed dangerous session
//@ says a member in front is gone: everything behind is read too early
#ifndef NEW
#define MIDDLE long deadline;
#define BEGIN(s) s->deadline = 9
#endif

//@ pair padding-filled dangerous session
//@ says the hole behind a char gets a member that old sessions never had set
#define MIDDLE char kind; OLD_NEW(, char level;)
#ifdef NEW
#define BEGIN(s) s->kind = 1, s->level = 4
#define CHECK(s) s->level
#else
#define BEGIN(s) s->kind = 1
#endif

//@ pair name-longer dangerous session
//@ says the name in the session gets eight bytes more: everything behind it moved
#define NAME_BYTES OLD_NEW(16, 24)

//@ pair integer-to-float dangerous session
//@ says limit becomes a float in the same four bytes: old integers are read as floats
#define LIMIT_TYPE OLD_NEW(int, float)

//@ pair double-to-long-double dangerous session
//@ says traffic is counted in long double: other width, other place
#define TRAFFIC OLD_NEW(double, long double) sent; OLD_NEW(double, long double) received;

//@ pair packed-added dangerous session
//@ says the struct is packed: members lose their padding and move
#ifdef NEW
#define SESSION struct __attribute__((packed)) session { HEAD char name[NAME_BYTES]; char kind; int state; MIDDLE LIMIT_TYPE limit; TRAFFIC struct session *next; TAIL }
#else
#define SESSION struct session { HEAD char name[NAME_BYTES]; char kind; int state; MIDDLE LIMIT_TYPE limit; TRAFFIC struct session *next; TAIL }
#endif

//@ pair alignment-raised dangerous session
//@ says a member wants 32 bytes: it and all behind it move
#define MIDDLE OLD_NEW(, _Alignas(32)) long deadline;
#define BEGIN(s) s->deadline = 9
#define CHECK(s) s->deadline

//@ pair bit-field-moved dangerous session
//@ says a new bit in front moves the bits of old sessions
#ifdef NEW
#define MIDDLE unsigned fresh : 1, open : 1, urgent : 1;
#else
#define MIDDLE unsigned open : 1, urgent : 1;
#endif
#define BEGIN(s) s->open = 1, s->urgent = 0
#define CHECK(s) (s->open * 2 + s->urgent)

//@ pair bit-field-widened dangerous session
//@ says a two-bit field gets three: the field behind moves
#define MIDDLE unsigned class : OLD_NEW(2, 3), level : 4;
#define BEGIN(s) s->class = 2, s->level = 9
#define CHECK(s) (s->class * 100 + s->level)

//@ pair bit-field-swapped dangerous session
//@ says two one-bit fields change places
#define MIDDLE unsigned OLD_NEW(open : 1, urgent : 1), OLD_NEW(urgent : 1, open : 1);
#define BEGIN(s) s->open = 1, s->urgent = 0
#define CHECK(s) (s->open * 2 + s->urgent)

//@ pair embedded-struct-grown dangerous session
//@ says a struct inside the session grows: all behind it moves
struct address { int host, port; OLD_NEW(, long scope;) };
#define MIDDLE struct address peer;
#define BEGIN(s) s->peer.host = 5, s->peer.port = 80
#define CHECK(s) s->peer.port

//@ pair union-grown dangerous session
//@ says the union inside gets a larger alternative: all behind it moves
union value { long number; char text[OLD_NEW(8, 24)]; };
#define MIDDLE union value value;
#define BEGIN(s) s->value.number = 12
#define CHECK(s) s->value.number

//@ pair union-at-tail-grown dangerous session
//@ says the union at the end grows: old sessions are too short for what is stored there now
union value { long number; char text[OLD_NEW(8, 24)]; };
#define TAIL union value value;
#define BEGIN(s) s->value.number = 12
#ifdef NEW
#define CHECK(s) (((struct session *)s)->value.text[20] = 1, *(volatile long *)&s->value.text[8] == 0 ? 1 : 2)
#endif

//@ pair array-in-place-of-pointer dangerous session
//@ says an array of eight bytes becomes a pointer: old bytes are taken for an address
#ifdef NEW
#define MIDDLE const char *label;
#define BEGIN(s) s->label = "label"
#else
#define MIDDLE char label[8];
#define BEGIN(s) strcpy(s->label, "label")
#endif
#define CHECK(s) (strlen(s->label))

//@ pair pointer-becomes-index dangerous session
//@ says a pointer member becomes an index into a table, both eight bytes
static const int tariffs[4] = { 10, 20, 30, 40 };
#ifdef NEW
#define MIDDLE unsigned long tariff;
#define BEGIN(s) s->tariff = 2
#define CHECK(s) tariffs[s->tariff]
#else
#define MIDDLE const int *tariff;
#define BEGIN(s) s->tariff = &tariffs[2]
#define CHECK(s) *s->tariff
#endif

//@ pair inlined-accessor-of-grown-struct dangerous session
//@ says the accessor is inlined in every user, and the struct it reads grew in the middle
struct limits { long low; OLD_NEW(, long soft;) long high; };
#define MIDDLE struct limits limits;
#define BEGIN(s) s->limits.low = 1, s->limits.high = 6
static inline __attribute__((always_inline)) long limits_span(const struct limits *l) { return l->high - l->low; }
#define CHECK(s) limits_span(&s->limits)

//@ pair small-enum-becomes-int dangerous session
//@ says an enum of one byte becomes an int: three bytes of old sessions behind it were never set
#define MIDDLE enum OLD_NEW(__attribute__((packed)), ) colour { RED = 1, GREEN = 2 } colour;
#ifdef NEW
#define BEGIN(s) s->colour = GREEN
#else
#define BEGIN(s) memset(&s->colour, 0x11, 4), s->colour = GREEN
#endif
#define CHECK(s) (s->colour == GREEN ? 3 : 4)

//@ template setters
// Settings of a session written by name, through a table of offsets.
struct settings SETTINGS;
static const struct field { const char *name; unsigned long offset; } fields[] = {
    { "port", offsetof(struct settings, port) },
    { "depth", offsetof(struct settings, depth) },
    { "rate", offsetof(struct settings, rate) },
};
static struct settings *settings;

KEPT long *setting_of(struct settings *s, const char *name)
{
    for (unsigned long i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, name) == 0)
            return (long *)((char *)s + fields[i].offset);
    return NULL;
}
KEPT void setting_set(const char *name, long value) { *setting_of(settings, name) = value; }
KEPT long setting_get(const char *name) { return *setting_of(settings, name); }
void setup(void)
{
    settings = calloc(1, sizeof *settings);
    setting_set("port", 80);
    setting_set("depth", 3);
    setting_set("rate", 9);
}
void answer(char *line, size_t size)
{
    snprintf(line, size, "settings %ld %ld %ld", setting_get("port"), setting_get("depth"), setting_get("rate"));
}

//@ pair offsets-in-a-table dangerous setters
//@ says only the table of member offsets differs: settings made before are read at the new places
#define SETTINGS { long port; OLD_NEW(long depth; long rate;, long rate; long depth;) long spare[4]; }

//@ pair offsets-in-a-table-grown dangerous setters
//@ says a member in the middle moves two offsets in the table; the functions stay equal
#define SETTINGS { long port; OLD_NEW(, long backlog;) long depth; long rate; long spare[OLD_NEW(4, 3)]; }

//@ template rows
// An array of structs on the heap, walked with the stride of the build.
struct row { int key; int value; ROW_TAIL };
static struct row *table;
static int row_count;

KEPT struct row *row_at(int i) { return table + i; }
KEPT void row_fill(int key, int value)
{
    struct row *row = row_at(row_count++);
    row->key = key;
    row->value = value;
}
KEPT int row_sum(void)
{
    int sum = 0;
    for (int i = 0; i < row_count; i++)
        sum = sum * 3 + table[i].value;
    return sum;
}
KEPT int row_key(int i) { return table[i].key; }
KEPT int row_find(int key)
{
    for (int i = 0; i < row_count; i++)
        if (table[i].key == key)
            return i;
    return -1;
}
void setup(void)
{
    table = calloc(1, ARENA);
    for (int i = 1; i <= 6; i++)
        row_fill(i * 7, i);
}
void answer(char *line, size_t size)
{
    snprintf(line, size, "rows %d %d %d", row_sum(), row_key(4), row_find(35));
}

//@ pair stride-of-heap-array dangerous rows
//@ says rows in one block get longer: old rows lie closer together than new code steps
#define ROW_TAIL OLD_NEW(, int flags;)
#define ARENA 4096

//@ pair stride-and-size-of-heap-array dangerous rows
//@ says rows get longer and the block with them: the old block is too short and laid out otherwise
#define ROW_TAIL OLD_NEW(, long flags;)
#define ARENA (64 * sizeof(struct row))

//@ pair flexible-array-header-grown dangerous
//@ says the header before a flexible array grows: the bytes of old blobs start earlier
struct blob { int length; int kind; OLD_NEW(, long hash;) char bytes[]; };
static struct blob *blob;
KEPT struct blob *blob_make(const char *text)
{
    struct blob *b = malloc(sizeof *b + strlen(text) + 1);
    b->length = strlen(text);
    b->kind = 2;
    strcpy(b->bytes, text);
    return b;
}
KEPT int blob_length(const struct blob *b) { return b->length; }
KEPT int blob_first(const struct blob *b) { return b->bytes[0]; }
KEPT int blob_equals(const struct blob *b, const char *text) { return strcmp(b->bytes, text) == 0; }
KEPT int blob_sum(const struct blob *b)
{
    int sum = b->kind;
    for (int i = 0; i < b->length; i++)
        sum += b->bytes[i];
    return sum;
}
void setup(void) { blob = blob_make("payload of a blob"); }
void answer(char *line, size_t size)
{
    snprintf(line, size, "blob %d %c %d %d", blob_length(blob), blob_first(blob), blob_equals(blob, "payload of a blob"), blob_sum(blob));
}

//@ pair pointer-to-array-stride dangerous
//@ says rows of a grid on the heap become longer: cells are looked for further on
enum { COLUMNS = OLD_NEW(8, 12) };
static int (*grid)[COLUMNS];
KEPT void grid_put(int row, int column, int value) { grid[row][column] = value; }
KEPT int grid_get(int row, int column) { return grid[row][column]; }
KEPT int grid_row_sum(int row)
{
    int sum = 0;
    for (int i = 0; i < 8; i++)
        sum += grid[row][i];
    return sum;
}
void setup(void)
{
    grid = calloc(1, 4096);
    for (int i = 0; i < 40; i++)
        grid_put(i / 8, i % 8, i);
}
void answer(char *line, size_t size) { snprintf(line, size, "grid %d %d %d", grid_get(3, 2), grid_get(1, 0), grid_row_sum(4)); }

//@ template wide
// One value in the middle of a record, of a width the build decides.
struct record { long id; ELEMENT values[4]; long check; };
static struct record *record;
KEPT void record_set(struct record *r, int i, ELEMENT value) { r->values[i & 3] = value; }
KEPT long record_get(const struct record *r, int i) { return (long)r->values[i & 3]; }
KEPT long record_id(const struct record *r) { return r->id; }
KEPT long record_sum(const struct record *r)
{
    long sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (long)r->values[i];
    return sum;
}
void setup(void)
{
    record = calloc(1, 128);
    record->id = 4;
    for (int i = 0; i < 4; i++)
        record_set(record, i, (ELEMENT)(10 + i));
}
void answer(char *line, size_t size)
{
    snprintf(line, size, "record %ld %ld %ld", record_id(record), record_get(record, 2), record_sum(record));
}

//@ pair element-int-to-long dangerous wide
//@ says elements of an array in the record become twice as wide; its start and the allocation stay
#define ELEMENT OLD_NEW(int, long)

//@ pair element-char-to-int dangerous wide
//@ says bytes become ints at the same displacement
#define ELEMENT OLD_NEW(signed char, int)

//@ pair element-long-to-double dangerous wide
//@ says the same eight bytes are a double: old integers are read as tiny numbers
#define ELEMENT OLD_NEW(long, double)

//@ pair element-float-to-double dangerous wide
//@ says floats become doubles: width and meaning of the bytes differ
#define ELEMENT OLD_NEW(float, double)

//@ pair link-of-container-moved dangerous
//@ says the list link moves inside its container: container_of goes back by another distance
struct link { struct link *next; };
struct job { OLD_NEW(struct link link; long cost; long prio;, long cost; struct link link; long prio;) };
#define JOB(l) ((struct job *)((char *)(l) - offsetof(struct job, link)))
static struct link *jobs;
KEPT void job_add(long cost, long prio)
{
    struct job *job = calloc(1, sizeof *job);
    job->cost = cost;
    job->prio = prio;
    job->link.next = jobs;
    jobs = &job->link;
}
KEPT long job_costs(void)
{
    long costs = 0;
    for (struct link *l = jobs; l; l = l->next)
        costs += JOB(l)->cost;
    return costs;
}
KEPT long job_top(void)
{
    long top = 0;
    for (struct link *l = jobs; l; l = l->next)
        if (JOB(l)->prio > top)
            top = JOB(l)->prio;
    return top;
}
KEPT int job_count(void)
{
    int count = 0;
    for (struct link *l = jobs; l; l = l->next)
        count++;
    return count;
}
void setup(void)
{
    job_add(5, 1);
    job_add(7, 3);
}
void answer(char *line, size_t size) { snprintf(line, size, "jobs %ld %ld %d", job_costs(), job_top(), job_count()); }

//@ pair struct-grown-used-once dangerous
//@ says one function alone reads the member that moved
struct point { int x, y; OLD_NEW(, int z;) int weight; };
static struct point *point;
KEPT int point_x(const struct point *p) { return p->x; }
KEPT int point_y(const struct point *p) { return p->y; }
KEPT int point_weight(const struct point *p) { return p->weight; }
KEPT void point_move(struct point *p, int dx, int dy) { p->x += dx; p->y += dy; }
void setup(void)
{
    point = calloc(1, 64);
    point_move(point, 3, 4);
    point->weight = 12;
}
void answer(char *line, size_t size)
{
    snprintf(line, size, "point %d %d %d", point_x(point), point_y(point), point_weight(point));
}
