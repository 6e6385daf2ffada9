// What security updates mostly are: one function does something more, less or otherwise.

//@ template service
// A small service with state on the heap, in .bss and in .data, made before the switch.
struct client { char name[16]; int id; int credit; long bytes; struct client *next; };
static struct client *clients;
static int client_count;
static long limits[4] = { 10, 20, 30, 40 };
static char buffer[64];

KEPT struct client *client_add(const char *name, int credit)
{
    struct client *c = malloc(sizeof *c);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->id = ++client_count;
    c->credit = credit;
    c->bytes = 0;
    c->next = clients;
    clients = c;
    return c;
}
KEPT struct client *client_find(const char *name)
{
    struct client *c = clients;
    while (c && strcmp(c->name, name) != 0)
        c = c->next;
    return c;
}
KEPT void client_charge(struct client *c, int amount) { c->credit -= amount; c->bytes += amount * 100; }
KEPT long client_bytes(const struct client *c) { return c->bytes; }
KEPT int client_credit(const struct client *c) { return c->credit; }
KEPT long limit_of(int level) { return limits[level & 3]; }
KEPT void limit_set(int level, long limit) { limits[level & 3] = limit; }
KEPT int buffer_put(const char *text) { return snprintf(buffer, sizeof buffer, "<%s>", text); }
KEPT const char *buffer_text(void) { return buffer; }
KEPT long clients_sum(void)
{
    long sum = 0;
    for (const struct client *c = clients; c; c = c->next)
        sum += c->credit + c->id * 1000 + c->bytes;
    return sum;
}
#ifdef HELPERS
HELPERS
#endif
#ifndef ARGUMENT
#define ARGUMENT client_find("anna")
#endif
#ifdef SUBJECT
SUBJECT
#endif
void setup(void)
{
    client_charge(client_add("anna", 70), 7);
    client_charge(client_add("bert", 80), 8);
    limit_set(2, 33);
    buffer_put("start");
}
void answer(char *line, size_t size)
{
    snprintf(line, size, "service %ld, %ld %d %s", (long)(ASK), clients_sum(), client_count, buffer_text());
}

//@ pair bounds-check-added harmless service
//@ says an index is checked before it is used
#define SUBJECT KEPT long level_limit(int level) { OLD_NEW(, if (level < 0 || level > 3) return -1;) return limits[level & 7]; }
#define ASK level_limit(2) + level_limit(-8 + 9) OLD_NEW(, + level_limit(5))

//@ pair null-check-added harmless service
//@ says a null pointer is checked before it is followed
#define SUBJECT KEPT long safe_bytes(const struct client *c, int guess) { OLD_NEW(if (guess > 1000) return 0;, if (!c) return -5;) return client_bytes(c) + guess; }
#define ASK OLD_NEW(safe_bytes(client_find("bert"), 1), safe_bytes(client_find("nobody"), 1))

//@ pair length-check-added harmless service
//@ says a text that is too long is refused before it is copied
#define SUBJECT KEPT int put_checked(const char *text) { OLD_NEW(, if (strlen(text) > 10) return -1;) return (int)strlen(text); }
#define ASK put_checked("a text that is rather long")

//@ pair comparison-made-unsigned harmless service
//@ says a signed comparison let negative numbers through
#define SUBJECT KEPT int allowed(int level) { HIDE(level); return OLD_NEW(level, (unsigned)level) < 4; }
#define ASK allowed(-2) * 10 + allowed(2)

//@ pair off-by-one-fixed harmless service
//@ says `<=` becomes `<` in a check of a bound
#define SUBJECT KEPT int inside(int level) { HIDE(level); return level OLD_NEW(<=, <) 4; }
#define ASK inside(4) * 10 + inside(3)

//@ pair overflow-check-added harmless service
//@ says a multiplication is checked before it is done
#define SUBJECT KEPT long total_bytes(unsigned count, unsigned each) { OLD_NEW(, if (each && count > 0xffffffffu / each) return -1;) return count * each; }
#define ASK total_bytes(0x10000, 0x10001)

//@ pair wider-arithmetic harmless service
//@ says a product is computed in 64 bits
#define SUBJECT KEPT long product(unsigned a, unsigned b) { HIDE(a); return OLD_NEW(a, (unsigned long)a) * b; }
#define ASK product(0x10000, 0x10001)

//@ pair return-convention-inside harmless service
//@ says a function returns another value for failure, and its caller inside of the image asks for it
#define SUBJECT KEPT int attempt(int x) { HIDE(x); return x > 3 ? OLD_NEW(1, 0) : OLD_NEW(0, -22); } \
    KEPT int attempted(int x) { int r = attempt(x); return OLD_NEW(r == 1, r == 0) ? x : OLD_NEW(-1, r); }
#define ASK attempted(5) * 100 + attempted(2)

//@ pair early-return-added harmless service
//@ says a disabled client is not charged any more
#define SUBJECT KEPT int may_charge(const struct client *c, int amount) { OLD_NEW(, if (c->credit < 70) return 0;) return amount < 50 ? amount : 50; }
#define ASK may_charge(client_find("anna"), 60)

//@ pair error-path-fixed harmless service
//@ says an error code is handed on instead of ignored
#define HELPERS KEPT int step(int x) { HIDE(x); return x > 5 ? -7 : x; }
#define SUBJECT KEPT int steps(int x) { int r = step(x); OLD_NEW(, if (r < 0) return r;) return r * 2; }
#define ASK steps(9)

//@ pair default-result-set harmless service
//@ says a result that was left as it came is set
#define SUBJECT KEPT int classify(int x, int before) { int r = OLD_NEW(before, -1); HIDE(x); if (x > 10) r = 2; return r; }
#define ASK classify(3, 9)

//@ pair new-helper-function harmless service
//@ says a new function does what the old one did in place, and checks more
#ifdef NEW
#define HELPERS KEPT long clip(long x) { HIDE(x); return x > 500 ? 500 : x; }
#endif
#define SUBJECT KEPT long shown_bytes(const struct client *c) { return OLD_NEW(c->bytes, clip(c->bytes)); }
#define ASK shown_bytes(client_find("bert"))

//@ pair new-recursive-helper harmless service
//@ says a new function that calls itself
#ifdef NEW
#define HELPERS KEPT long depth_sum(const struct client *c) { return c ? c->bytes + depth_sum(c->next) : 0; }
#endif
#define SUBJECT KEPT long all_bytes(void) { return OLD_NEW(clients->bytes, depth_sum(clients)); }
#define ASK all_bytes()

//@ pair new-static-counter harmless service
//@ says new code counts in a variable of its own, which starts with nothing in any process
#ifdef NEW
#define HELPERS static long denied;
#endif
#define SUBJECT KEPT long deny(int x) { HIDE(x); OLD_NEW(, if (x > 5 && denied < 3) denied = 3;) return x OLD_NEW(, + denied); }
#define ASK deny(9)

//@ pair new-static-table harmless service
//@ says new code reads a new constant table
#ifdef NEW
#define HELPERS static const short weight[6] = { 3, 1, 4, 1, 5, 9 };
#endif
#define SUBJECT KEPT long weighed(int x) { HIDE(x); return OLD_NEW(x, weight[x % 6]); }
#define ASK weighed(5)

//@ pair new-string harmless service
//@ says new code hands out a text that the old build has not
#define SUBJECT KEPT const char *reason(int x) { HIDE(x); return x > 5 ? OLD_NEW("start", "a new reason to say no") : "start"; }
#define ASK buffer_put(reason(9))

//@ pair string-changed harmless service
//@ says an error text is corrected
#define SUBJECT KEPT int report(int x) { HIDE(x); return buffer_put(x > 5 ? OLD_NEW("not alowed", "not allowed") : "start"); }
#define ASK report(9)

//@ pair format-changed harmless service
//@ says a format shows one number more
#define SUBJECT KEPT int report(const struct client *c) { return snprintf(buffer, sizeof buffer, OLD_NEW("client %d", "client %d with %d"), c->id, c->credit); }
#define ASK report(client_find("anna"))

//@ pair callee-swapped harmless service
//@ says another function of the same kind is called
#define HELPERS KEPT long measure_plain(long x) { HIDE(x); return x; } KEPT long measure_strict(long x) { HIDE(x); return x / 2; } \
    KEPT long measured_both(long x) { return measure_plain(x) + measure_strict(x); }
#define SUBJECT KEPT long measured(long x) { return OLD_NEW(measure_plain, measure_strict)(x) + 1; }
#define ASK measured(90) + measured_both(1)

//@ pair arguments-swapped harmless service
//@ says a call handed its arguments in the wrong order
#define HELPERS KEPT long ratio(long a, long b) { HIDE(a); return a * 100 / b; }
#define SUBJECT KEPT long used_ratio(long used, long whole) { return OLD_NEW(ratio(whole, used), ratio(used, whole)); }
#define ASK used_ratio(20, 40)

//@ pair local-constant-changed harmless service
//@ says a limit that lives nowhere but in the instruction is lowered
#define SUBJECT KEPT long capped(long x) { HIDE(x); return x > OLD_NEW(900, 600) ? OLD_NEW(900, 600) : x; }
#define ASK capped(700)

//@ pair retry-count-changed harmless service
//@ says a loop runs more often
#define SUBJECT KEPT long tries(long x) { for (int i = 0; i < OLD_NEW(3, 5); i++) { HIDE(x); x += i; } return x; }
#define ASK tries(10)

//@ pair mask-of-local-changed harmless service
//@ says a mask of a computed value, kept nowhere, gets another bit
#define SUBJECT KEPT long scrambled(unsigned x) { HIDE(x); return (x * 2654435761u >> 7) & OLD_NEW(0xff, 0x1ff); }
#define ASK scrambled(77)

//@ pair float-constant-changed harmless service
//@ says a factor of a computation is corrected
#define SUBJECT KEPT long scaled(double x) { HIDE(x); return (long)(x * OLD_NEW(1.5, 2.5)); }
#define ASK scaled(100)

//@ pair loop-rewritten harmless service
//@ says a loop goes backwards and stops earlier
#define SUBJECT KEPT long limits_sum(void) { long s = 0; OLD_NEW(for (int i = 0; i < 4; i++) s += limits[i];, for (int i = 3; i >= 0 && s < 60; i--) s += limits[i];) return s; }
#define ASK limits_sum()

//@ pair loop-becomes-recursion harmless service
//@ says a loop over the clients becomes a function that calls itself and skips some
#define SUBJECT KEPT long charge_sum(const struct client *c) { OLD_NEW(long s = 0; for (; c; c = c->next) s += c->credit; return s;, if (!c) return 0; return (c->credit > 65 ? c->credit : 0) + charge_sum(c->next);) }
#define ASK charge_sum(clients)

//@ pair switch-case-added harmless service
//@ says a switch knows one value more
#define SUBJECT KEPT int priced(int x) { HIDE(x); switch (x) { case 1: return 10; case 2: return 25; case 3: return 31; case 4: return 47; case 5: return 52; OLD_NEW(, case 6: return 66;) } return -1; }
#define ASK priced(6) * 100 + priced(3)

//@ pair switch-with-calls-grown harmless service
//@ says a switch with a jump table gets a case more
#define HELPERS KEPT int c0(int x) { HIDE(x); return x; } KEPT int c1(int x) { HIDE(x); return x + 1; } KEPT int c2(int x) { HIDE(x); return x * 2; }
#define SUBJECT KEPT int dispatch(int k, int x) { HIDE(k); switch (k) { case 0: return c0(x); case 1: return c1(x) * 3; case 2: return c2(x) - 1; case 3: return c0(x) ^ 9; case 4: return c1(x) + c2(x); case 5: return c2(x) << 2; OLD_NEW(, case 6: return c1(x) * 7;) } return -1; }
#define ASK dispatch(6, 5) * 1000 + dispatch(4, 5)

//@ pair condition-tightened harmless service
//@ says one more condition has to hold
#define SUBJECT KEPT int permitted(const struct client *c, int amount) { return c->credit > amount OLD_NEW(, && c->id != 1); }
#define ASK permitted(client_find("anna"), 5) * 10 + permitted(client_find("bert"), 5)

//@ pair condition-inverted harmless service
//@ says a condition was the wrong way round
#define SUBJECT KEPT int is_rich(const struct client *c) { return c->credit OLD_NEW(<, >=) 65; }
#define ASK is_rich(client_find("anna")) * 10 + is_rich(client_find("bert"))

//@ pair const-table-read-directly harmless service
//@ says a constant table changes that is read where it stands
#define HELPERS static const unsigned char days[12] = { 31, OLD_NEW(28, 29), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
#define SUBJECT KEPT int days_of(int month) { HIDE(month); return days[month % 12]; }
#define ASK days_of(1) * 100 + days_of(3)

//@ pair const-table-grown harmless service
//@ says a constant table that is read where it stands gets more rows
#define HELPERS static const int prices[OLD_NEW(4, 6)] = { 5, 6, 7, 8, OLD_NEW(, 9, 10) };
#define SUBJECT KEPT int price_of(unsigned i) { HIDE(i); return i < sizeof prices / sizeof *prices ? prices[i] : -1; }
#define ASK price_of(5) * 100 + price_of(3)

//@ pair string-table-entry-changed harmless service
//@ says one text of a table of messages changes, and the table is read where it stands
#define HELPERS static const char *const messages[4] = { "fine", "late", OLD_NEW("lost", "gone for good"), "dead" };
#define SUBJECT KEPT int message(int i) { HIDE(i); return buffer_put(messages[i & 3]); }
#define ASK message(2)

//@ pair import-swapped harmless service
//@ says strchr becomes strrchr
#define SUBJECT KEPT long name_tail(const char *text) { HIDE(text); const char *p = OLD_NEW(strchr, strrchr)(text, '/'); return p ? (long)(p - text) : -1; } \
    KEPT long name_both(const char *text, int c) { HIDE(text); HIDE(c); return (strchr(text, c) != 0) + (strrchr(text, c) != 0); }
#define ASK name_tail("a/b/c") + name_both("a/b", '/')

//@ pair new-import-of-libc harmless service
//@ says new code calls a function of the C library that the old build does not
#define SUBJECT KEPT long id_of_text(const char *text) { HIDE(text); return OLD_NEW(text[0] - '0', strtoul(text, NULL, 8)); }
#define ASK id_of_text("17")

//@ pair new-import-with-errno harmless service
//@ says new code asks for a group id, which the old build never did
#define SUBJECT KEPT long who(long x) { HIDE(x); return OLD_NEW(x, x + (getegid() == getgid() ? 5 : 6)); }
#define ASK who(3)

//@ pair function-outlined harmless service
//@ says a part of a function moves to a function of its own, with a correction
#ifdef NEW
#define HELPERS KEPT long part(long x) { HIDE(x); return x * x + 2; }
#endif
#define SUBJECT KEPT long whole(long x) { HIDE(x); return OLD_NEW(x * x + 1, part(x)) - x; }
#define ASK whole(9)

//@ pair function-inlined harmless service
//@ says a function is gone, its caller does the work itself, with a correction
#ifndef NEW
#define HELPERS KEPT long part(long x) { HIDE(x); return x * x + 1; }
#endif
#define SUBJECT KEPT long whole(long x) { HIDE(x); return OLD_NEW(part(x), x * x + 2) - x; }
#define ASK whole(9)

//@ pair helper-gets-argument harmless service
//@ says a function inside gets one argument more, and all of its callers hand it over
#define HELPERS KEPT long inner(long x OLD_NEW(, , long floor)) { HIDE(x); OLD_NEW(, if (x < floor) return floor;) return x; }
#define SUBJECT KEPT long outer(long x) { return inner(x OLD_NEW(, , 15)) + 1; } KEPT long outer_two(long x) { return inner(x * 2 OLD_NEW(, , 1)); }
#define ASK outer(4) * 100 + outer_two(6)

//@ pair helper-loses-argument harmless service
//@ says a function inside loses an argument
#ifdef NEW
#define EXTRA_ARGUMENT
#define EXTRA_VALUE
#else
#define EXTRA_ARGUMENT , long bias
#define EXTRA_VALUE , 2
#endif
#define HELPERS KEPT long inner(long x EXTRA_ARGUMENT) { HIDE(x); return x + OLD_NEW(bias, 3); }
#define SUBJECT KEPT long outer(long x) { return inner(x EXTRA_VALUE) + 1; }
#define ASK outer(4)

//@ pair struct-on-stack-grown harmless service
//@ says a struct that lives on one function's stack alone grows
#define SUBJECT KEPT long averaged(long x) { struct { long sum, count; OLD_NEW(, long max;) } s = { 0, 0 }; HIDE(x); for (long i = 0; i < x; i++) { s.sum += i; s.count++; OLD_NEW(, s.max = i > s.max ? i : s.max;) } return s.sum * 10 + s.count OLD_NEW(, + s.max); }
#define ASK averaged(6)

//@ pair local-buffer-grown harmless service
//@ says a buffer on one function's stack grows
#define SUBJECT KEPT long local_text(int n) { char text[OLD_NEW(16, 48)]; HIDE(n); snprintf(text, sizeof text, "%0*d", n, 7); return strlen(text); }
#define ASK local_text(30)

//@ pair buffer-cleared-after-use harmless service
//@ says a local secret is cleared before the function returns, and the length with it
#define SUBJECT KEPT long secret(const char *text) { char copy[24]; snprintf(copy, sizeof copy, "%s", text); long n = strlen(copy); OLD_NEW(, n += copy[0] == 'k';) OLD_NEW(, explicit_bzero(copy, sizeof copy);) return n; }
#define ASK secret("key")

//@ pair return-value-changed harmless service
//@ says a function returns another constant
#define SUBJECT KEPT int build_level(void) { int x = OLD_NEW(11, 12); HIDE(x); return x; }
#define ASK build_level()

//@ pair sign-extension-fixed harmless service
//@ says a byte is taken as unsigned before it is an index
#define SUBJECT KEPT int byte_of(const char *text) { HIDE(text); return OLD_NEW(text[0], (unsigned char)text[0]) + 1; }
#define ASK byte_of("\xf0")

//@ pair shift-fixed harmless service
//@ says a shift by 32 and more is done in 64 bits
#define SUBJECT KEPT long shifted(int by) { HIDE(by); return OLD_NEW((long)(1 << (by & 31)), 1l << (by & 63)); }
#define ASK shifted(33)

//@ pair division-guarded harmless service
//@ says a division by zero is avoided
#define SUBJECT KEPT long divided(long a, long b) { HIDE(a); HIDE(b); OLD_NEW(if (b == 0) b = 1;, if (b <= 0) return 0;) return a / b; }
#define ASK divided(8, 0) * 10 + divided(9, 3)

//@ pair output-escaped harmless service
//@ says a character is escaped on its way out
#define SUBJECT KEPT int escaped(const char *text) { int n = 0; for (; *text && n < 40; text++) { OLD_NEW(, if (*text == '<') { buffer[n++] = '&'; continue; }) buffer[n++] = *text; } buffer[n] = 0; return n; }
#define ASK escaped("a<b")

//@ pair sort-order-of-local-copy harmless service
//@ says a local copy is sorted the other way
#define HELPERS static int by_value(const void *a, const void *b) { long x = *(const long *)a, y = *(const long *)b; return OLD_NEW((x > y) - (x < y), (y > x) - (y < x)); }
#define SUBJECT KEPT long top(void) { long copy[4]; for (int i = 0; i < 4; i++) copy[i] = limits[i]; qsort(copy, 4, sizeof *copy, by_value); return copy[0]; }
#define ASK top()

//@ pair callback-changed harmless service
//@ says a function whose address was stored in the heap changes; its address stays
#define HELPERS typedef long (*hook)(long); static hook *hooks; KEPT long hook_double(long x) { HIDE(x); return x * OLD_NEW(2, 3); } \
    KEPT void hook_set(void) { if (!hooks) { hooks = malloc(2 * sizeof *hooks); hooks[0] = hook_double; } }
#define SUBJECT KEPT long hooked(long x) { hook_set(); return hooks[0](x); }
#define ASK hooked(7)

//@ pair two-functions-changed harmless service
//@ says two functions change that call each other
#define HELPERS KEPT long odd(long x); KEPT long even(long x) { HIDE(x); return x <= 0 ? OLD_NEW(1, 5) : odd(x - 1); } KEPT long odd(long x) { HIDE(x); return x <= 0 ? OLD_NEW(0, 9) : even(x - 1); }
#define SUBJECT KEPT long parity(long x) { return even(x); }
#define ASK parity(4) * 10 + parity(5)

//@ pair tail-call-changed harmless service
//@ says a function ends in a jump to another one than before
#define HELPERS KEPT long last_a(long x) { HIDE(x); return x + 100; } KEPT long last_b(long x) { HIDE(x); return x + 200; } KEPT long lasts(long x) { return last_a(x) * last_b(x); }
#define SUBJECT KEPT long ends(long x) { HIDE(x); return OLD_NEW(last_a, last_b)(x * 2); }
#define ASK ends(4) + lasts(0)

//@ pair variadic-changed harmless service
//@ says a function with a variable number of arguments changes
#define HELPERS _Static_assert(1, "");
#define SUBJECT KEPT long vsum(int n, ...) { __builtin_va_list list; __builtin_va_start(list, n); long s = 0; for (int i = 0; i < n; i++) s OLD_NEW(+=, = s * 2 +) __builtin_va_arg(list, long); __builtin_va_end(list); return s; }
#define ASK vsum(3, 5l, 6l, 7l)

//@ pair member-read-added harmless service
//@ says new code looks at a member that old code has always set
#define SUBJECT KEPT long trust(const struct client *c) { return c->credit OLD_NEW(, + c->bytes); }
#define ASK trust(client_find("bert"))

//@ pair member-write-removed harmless service
//@ says new code no longer changes a member that it had no reason to change
#define SUBJECT KEPT long peek(struct client *c) { OLD_NEW(if (c->credit > 100000) c->credit = 0;, ) return c->credit OLD_NEW(, - 1); }
#define ASK peek(client_find("bert"))

//@ pair atomic-added harmless service
//@ says a variable that was there is changed atomically
#define HELPERS static long gauge = 5; KEPT long gauge_read(void) { return gauge > 4; }
#define SUBJECT KEPT long gauge_move(long by) { OLD_NEW(gauge += by;, __atomic_fetch_add(&gauge, by, __ATOMIC_SEQ_CST);) return OLD_NEW(by, by + 1); }
#define ASK gauge_move(2) + gauge_read()

//@ pair assertion-added harmless service
//@ says an assertion guards what was taken for granted
#define SUBJECT KEPT long asserted(long x) { HIDE(x); OLD_NEW(, if (x > 1000) abort();) return x OLD_NEW(, * 2); }
#define ASK asserted(21)

//@ pair line-numbers-only harmless service
//@ says nothing but line numbers moved, which an error function gets
#define HELPERS KEPT long complain(const char *file, int line, long x) { HIDE(line); HIDE(file); return file && line > 1 ? x : 0; }
#define SUBJECT KEPT long careful(long x) { HIDE(x); return x > 50 ? complain(__FILE__, LINE, x) : x; }
#define LINE OLD_NEW(310, 325)
#define ASK careful(60)

//@ pair function-grown-much harmless service
//@ says a small function becomes much larger
#define SUBJECT KEPT long digest(long x) { HIDE(x); OLD_NEW(return x ^ 5;, for (int r = 0; r < 9; r++) { x ^= x << 7; x ^= x >> 9; switch (x & 3) { case 0: x += limit_of(1); break; case 1: x -= limit_of(2); break; case 2: x *= 3; break; default: x ^= client_count; } } return x & 0xffff;) }
#define ASK digest(12)

//@ pair function-shrunk harmless service
//@ says a function becomes smaller than it was
#define SUBJECT KEPT long digest(long x) { HIDE(x); OLD_NEW(for (int r = 0; r < 5; r++) { x ^= x << 7; x ^= x >> 9; x += limit_of(r); } return x & 0xffff;, return x & 0xff;) }
#define ASK digest(12)
