/* The target of target.c in C++: every function that changes catches an exception, which another one throws in a callee that stays.
   Compiled twice, with ANSWER 1 and 2; the hotpatch is made from the two builds, with its frame descriptions. */
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <ctime>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

static volatile int limit = 5, unit = 1;
#define EACH X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define X(n) \
    __attribute__((noipa)) static int raise##n(int value) { \
        if (value > limit + n) throw std::runtime_error("no"); \
        return value; \
    } \
    __attribute__((noipa)) static int f##n(int value) { \
        try { return raise##n(value); } catch (const std::exception &) { return ANSWER * unit; } \
    }
EACH
#undef X
#define X(n) f##n,
static int (*const all[])(int) = {EACH};
enum { COUNT = sizeof all / sizeof *all, THREADS_MAX = 64, VALUE = 100 };
struct counts { std::atomic<long> changes, wrong, interrupted, loops; };
static counts counted[THREADS_MAX], told[THREADS_MAX];

static void rest(int kind, int ep, counts &mine) {
    struct timespec t = {0, 2000000};
    struct epoll_event e;
    int failed = 0;
    if (kind == 1) failed = epoll_wait(ep, &e, 1, 2) < 0;
    else if (kind == 2) failed = nanosleep(&t, nullptr) != 0;
    else if (kind == 3) failed = poll(nullptr, 0, 2) < 0;
    else usleep(300);
    if (failed && errno == EINTR) mine.interrupted++;
}

static void work(int n) {
    int ep = epoll_create1(0), last = all[0](VALUE);
    counts &mine = counted[n];
    for (;;) {
        for (int i = 0; i < COUNT; i++) {
            int now = all[i](VALUE);
            if (now != 1 && now != 2) mine.wrong++;
            else if (now != last) { mine.changes++; last = now; }
        }
        mine.loops++;
        rest(n % 4, ep, mine);
    }
}

static long since(std::atomic<long> &now, std::atomic<long> &then) {
    long at = now, before = then;
    then = at;
    return at - before;
}

/* As target.c tells it; there are no sums here. */
static void tell(int threads) {
    long changes[THREADS_MAX], wrong = 0, interrupted = 0, loops = -1;
    for (int i = 0; i < threads; i++) {
        long l = since(counted[i].loops, told[i].loops);
        changes[i] = since(counted[i].changes, told[i].changes);
        loops = loops < 0 || l < loops ? l : loops;
        wrong += since(counted[i].wrong, told[i].wrong);
        interrupted += since(counted[i].interrupted, told[i].interrupted);
    }
    printf("%ld %ld 0 %ld", wrong, interrupted, loops);
    for (int i = 0; i < threads; i++) printf(" %ld", changes[i]);
    printf("\n");
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 16;
    char c;
    alarm(3600);
    if (threads > THREADS_MAX) return 2;
    for (int i = 0; i < threads; i++) std::thread(work, i).detach();
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'a') {
            for (int i = 0; i < COUNT; i++) printf("%d ", all[i](VALUE));
            printf("\n");
        }
        if (c == 'c') tell(threads);
        fflush(stdout);
    }
    _exit(0);
}
