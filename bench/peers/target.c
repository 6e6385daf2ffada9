/* The program whose library is changed. argv: THREADS MODE FILE. Ends after 900 s, or when its parent does.

   FILE is shared memory of four words: whether the first thread is to spin (set from outside), the longest time in
   nanoseconds between two looks of it at the clock, without the time it slept on purpose, the number of its looks, and
   the last answer of `version`. It has real-time priority, so that nothing else on the machine shows, except in `many`.
   When it spins it sleeps for 1 ms of every 10: the kernel takes the processor for 50 ms at once from one that never
   does. What the other threads do: in `idle` and `many` they sleep and ask for the answer, in `malloc` they allocate and
   free without end, in `churn` they create and join threads without end, in `inside` they stay in a changed function for
   ever. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

int version(int more);
int stays(volatile const long *until);

static _Atomic long *shared;
static volatile int sink;
static volatile long never;
static pthread_attr_t small;

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void *ask(void *u) {
    for (;;) {
        usleep(20000);
        sink = version(0);
    }
    return u;
}

static void *allocate(void *u) {
    for (void *got[64];;) {
        for (int i = 0; i < 64; i++) got[i] = malloc(100 + 7 * i);
        for (int i = 0; i < 64; i++) free(got[i]);
    }
    return u;
}

static void *once(void *u) {
    sink = version(0);
    return u;
}

static void *churn(void *u) {
    for (pthread_t t;;)
        if (!pthread_create(&t, &small, once, NULL)) pthread_join(t, NULL);
    return u;
}

static void *inside(void *u) {
    sink = stays(&never);
    return u;
}

int main(int argc, char **argv) {
    pthread_t t;
    struct sched_param real_time = {.sched_priority = 5};
    int file = argc > 3 ? open(argv[3], O_RDWR) : -1, many;
    if (file < 0) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(900);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    void *(*other)(void *) = !strcmp(argv[2], "malloc")   ? allocate
                             : !strcmp(argv[2], "churn")  ? churn
                             : !strcmp(argv[2], "inside") ? inside
                                                          : ask;
    many = !strcmp(argv[2], "many");
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int i = 1; i < atoi(argv[1]); i++)
        if (pthread_create(&t, &small, other, NULL)) return 1;
    if (!many) sched_setscheduler(0, SCHED_FIFO, &real_time);
    printf("ready\n");
    fflush(stdout);
    for (long before = now(), at, rested = before, slept = 0;; before = at) {
        at = now();
        if (at - before - slept > shared[1]) shared[1] = at - before - slept;
        slept = 0;
        /* Seldom, so that the thread that measures is hardly ever inside what is changed. */
        if (!(shared[2]++ % 64) || !shared[0]) shared[3] = version(0);
        if (shared[0] && at - rested < 9000000) continue;
        slept = many ? 20000000 : 1000000;
        usleep(slept / 1000);
        rested = at + slept;
    }
}
