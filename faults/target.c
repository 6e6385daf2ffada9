/* A target that checks itself. argv[1]: number of threads. Answers one-letter commands on stdin; ends on EOF or after an hour.

   Every thread calls all functions in turn and counts how often the answer changes from one call to the next: a switch
   of the code changes it once, half a switch changes it all the time. `outer` is changed too and calls two of the others:
   while it runs, both must answer as it does.

   There are three builds: 1, the old one; 2; and 3, which leaves f7 as it is in the old one. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include "target.h"

#define THREADS_MAX 64
#define X(p, n) int p##n(void) { return 1; }
EACH(f)
#undef X
#define X(p, n) int p##n(void);
EACH(g)
#undef X

/* 1: both old; 4: mixed; 5: the old one ran although both are new. The other builds answer 2 and 3. */
int outer(void) {
    int a = f0(), b = g0();
    if (a != b) return 4;
    return a == 1 ? 1 : 5;
}

typedef int (*answer)(void);
#define X(p, n) p##n,
static const answer all[] = {EACH(f) EACH(g) outer};
#undef X
#define COUNT (int)(sizeof all / sizeof *all)
#define LEFT 7 /* f7 */

struct counts { atomic_long changes, wrong, interrupted, sums, loops; };
static struct counts counted[THREADS_MAX], told[THREADS_MAX];
static volatile double addend = 1.0;

static double sum(void) {
    double s = 0;
    for (int i = 1; i < 50; i++) s += addend / i;
    return s;
}

static void rest(int kind, int ep, struct counts *mine) {
    struct timespec t = {0, 2000000};
    struct epoll_event e;
    int failed = 0;
    if (kind == 1) failed = epoll_wait(ep, &e, 1, 2) < 0;
    else if (kind == 2) failed = nanosleep(&t, NULL) != 0;
    else if (kind == 3) failed = poll(NULL, 0, 2) < 0;
    else usleep(300);
    if (failed && errno == EINTR) mine->interrupted++;
}

static void *work(void *number) {
    int n = (int)(long)number, ep = epoll_create1(0), last = all[0](), left = 0;
    struct counts *mine = &counted[n];
    double right = sum();
    for (;;) {
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < COUNT; i++) {
                int now = all[i]();
                if (now < 1 || now > (i == LEFT ? 2 : 3)) mine->wrong++;
                else if (i == LEFT && now == 1) left = last == 2; /* from 2 to which one? the next answer says it */
                else if (now != last) { mine->changes++; last = now; left = 0; }
                else if (left) { mine->changes += 2; left = 0; } /* to none: one alone was another */
            }
            if (sum() != right) mine->sums++;
        }
        mine->loops++;
        rest(n % 4, ep, mine);
    }
    return NULL;
}

/* Since the last time: wrong answers, interrupted calls, wrong sums, fewest rounds; then the changes that each thread saw. */
static void tell(int threads) {
    long changes[THREADS_MAX], wrong = 0, interrupted = 0, sums = 0, loops = -1;
    for (int i = 0; i < threads; i++) {
#define SINCE(field) ({ long now_ = counted[i].field, then_ = told[i].field; told[i].field = now_; now_ - then_; })
        long l = SINCE(loops);
        changes[i] = SINCE(changes);
        loops = loops < 0 || l < loops ? l : loops;
        wrong += SINCE(wrong);
        interrupted += SINCE(interrupted);
        sums += SINCE(sums);
    }
    printf("%ld %ld %ld %ld", wrong, interrupted, sums, loops);
    for (int i = 0; i < threads; i++) printf(" %ld", changes[i]);
    printf("\n");
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 16;
    pthread_t t;
    char c;
    alarm(3600);
    if (threads > THREADS_MAX) return 2;
    for (long i = 0; i < threads; i++) pthread_create(&t, NULL, work, (void *)i);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'a') { for (int i = 0; i < COUNT; i++) printf("%d ", all[i]()); printf("\n"); }
        if (c == 'c') tell(threads);
        fflush(stdout);
    }
    return 0;
}
