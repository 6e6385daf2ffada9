/* Four builds of one program: VERSION 0 is the baseline, 1, 2 and 3 are three updates of it, one after the other.
   Answers one-letter commands on stdin. argv[1]: number of threads that check that they never see half of an update.

   one, two, three   say the number of the build that they come from; in build 2 `two` is as in the baseline
   count             builds 1 to 3 count the calls in a variable that they added; build 0 says -1
   other             build 2 adds a second variable; build 3 still has it
   where             where that variable is; kept by the program, as others would keep such an address */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noipa))

static int base = 40;
KEPT int baseline_too(int x) { return base - 40 + x; }

#if VERSION >= 1
static int calls = 100;
#endif
#if VERSION >= 2
static long others[2];
#endif

KEPT int count(void)
{
#if VERSION >= 1
    return calls++;
#else
    return base - 41;
#endif
}

KEPT int *where(void)
{
#if VERSION >= 1
    return &calls;
#else
    return NULL;
#endif
}

KEPT long other(int i)
{
#if VERSION >= 2
    return base - 40 + ++others[i];
#else
    return base - 41;
#endif
}

KEPT int one(int x) { return x + base - 40 + VERSION; }
#if VERSION == 1 || VERSION == 3
KEPT int two(int x) { return x + base - 40 + VERSION; }
#else
KEPT int two(int x) { return x + base - 40; }
#endif
#if VERSION >= 2
KEPT int three(int x) { return x + base - 40 + VERSION; }
#else
KEPT int three(int x) { return x + base - 40; }
#endif

#ifdef SENTINEL
/* Builds 1 to 3 have an object whose address says something. */
KEPT const char *told(int i)
{
#if VERSION >= 1
    static const char nothing[] = "nothing to tell";
    static const char *volatile last;
    const char *before = last;
    last = i ? nothing : "something";
    return before == nothing ? NULL : nothing;
#else
    return i ? "old" : NULL;
#endif
}
#endif

/* says so, and waits for 'w' */
KEPT int stay(void)
{
    char c;
    if (write(1, "inside\n", 7) != 7) return 1;
    while (read(0, &c, 1) == 1 && c != 'w') {}
    return 0;
}

/* changed in builds 1 and 3, in 2 as in the baseline */
KEPT int naps(void)
{
    volatile int slept = stay(); /* so that it is on the stack meanwhile */
    return slept + (VERSION & 1);
}

/* Builds 1 to 3 hand out the address of a function that the old one has not; it says their number. With GIVES_UP
   build 2 does not have it any more. */
typedef int (*function)(int);
static volatile function kept_function = baseline_too;
#if VERSION == 0 || (defined GIVES_UP && VERSION == 2)
KEPT void keep(void) { kept_function = baseline_too; }
KEPT int is_kept(void) { return kept_function == baseline_too; }
#else
KEPT int added(int x) { return x + base - 40 + VERSION; }
KEPT void keep(void) { kept_function = added; }
KEPT int is_kept(void) { return kept_function == added; }
#endif

static atomic_long wrong, rounds;
static void *work(void *unused)
{
    for (;;) {
        int a = one(0), b = two(0), c = three(0), d = one(0);
        /* only what was seen while nothing changed can be judged */
        if (a == d) {
            static const int twos[] = {0, 1, 0, 3}, threes[] = {0, 0, 2, 3};
            if (a < 0 || a > 3 || ((b != twos[a] || c != threes[a]) && one(0) == a && two(0) == b && three(0) == c)) wrong++;
        }
        if (++rounds % 64 == 0) usleep(100); /* others share the machine */
    }
    return unused;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    pthread_t t;
    char c;
    alarm(300);
    for (int i = 0; i < threads; i++) pthread_create(&t, NULL, work, NULL);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'a') printf("%d %d %d\n", one(0), two(0), three(0));
        if (c == 'n') printf("%d\n", count());
        if (c == 'o') printf("%ld\n", other(1));
        if (c == 'p') { static int *kept; if (!kept) kept = where(); printf("%d\n", *kept); }
        if (c == 's') printf("slept %d\n", naps());
        if (c == 'w') printf("%ld %d\n", wrong, rounds > 0);
#ifdef SENTINEL
        if (c == 't') printf("%d\n", told(1) == NULL);
#endif
        if (c == 'k') { keep(); printf("%d\n", kept_function(0)); }
        if (c == 'K') printf("%d %d\n", kept_function(0), is_kept());
        fflush(stdout);
    }
    return 0;
}
