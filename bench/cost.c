/* What a redirected call costs. Answers on stdin; t: nanoseconds for each call, in the median of 101 rounds; a: the answer. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

__attribute__((noipa)) int first(void) { return 1; }
__attribute__((noipa)) int second(void) { return 1; }
static volatile int sink;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static int compare(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

int main(void) {
    enum { ROUNDS = 101, CALLS = 100000 };
    double took[ROUNDS];
    char c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(300);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        for (int round = 0; c == 't' && round < ROUNDS; round++) {
            double began = now();
            for (int i = 0; i < CALLS; i++) sink = first();
            took[round] = (now() - began) / CALLS;
        }
        if (c == 't') { qsort(took, ROUNDS, sizeof *took, compare); printf("%.3f\n", took[ROUNDS / 2]); }
        if (c == 'a') printf("%d %d\n", first(), second());
        fflush(stdout);
    }
    return 0;
}
