/* What unwinding through new code costs. Compiled twice, with ANSWER 1 and 2: `middle` changes, `leaf` below it stays.
   Answers on stdin; e: nanoseconds for each exception from leaf through middle to main; b: nanoseconds for each backtrace() in
   leaf; both in the median of 101 rounds; d: how many frames backtrace() finds there; a: the answer. */
#include <algorithm>
#include <cstdio>
#include <execinfo.h>
#include <signal.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static volatile int unit = 1, sink;
enum { ROUNDS = 101, CALLS = 500, FRAMES_MAX = 64 };

__attribute__((noipa)) static int leaf(char how) {
    void *frames[FRAMES_MAX];
    if (how == 'e') throw std::runtime_error("no");
    return how == 'b' || how == 'd' ? backtrace(frames, FRAMES_MAX) : unit;
}
__attribute__((noipa)) static int middle(char how) {
    int found = leaf(how) * unit; /* no tail call: it has a frame in both builds */
    return how == 'a' ? found * ANSWER : found;
}

static int once(char how) {
    try { return middle(how); } catch (const std::exception &) { return 0; }
}

static double now() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main() {
    double took[ROUNDS];
    char how;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(300);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &how, 1) == 1) {
        if (how == 'e' || how == 'b') {
            for (double &round : took) {
                double began = now();
                for (int i = 0; i < CALLS; i++) sink = once(how);
                round = (now() - began) / CALLS;
            }
            std::nth_element(took, took + ROUNDS / 2, took + ROUNDS);
            printf("%.1f\n", took[ROUNDS / 2]);
        } else printf("%d\n", once(how));
        fflush(stdout);
    }
    return 0;
}
