/* What the pauses are measured on. argv: THREADS MODE FILE. Ends after 900 s, or when its parent does.

   FILE is shared memory of three words: whether the first thread is to spin (set from outside), the longest time in
   nanoseconds between two looks of it at the clock, and the number of its rounds. It has real-time priority, so that
   nothing else on the machine shows. All other threads sleep and call changed functions in turn, at real-time
   priority too (`idle`), or are ordinary threads that together keep four fifths of one processor at work (`busy`).
   What the functions are is in functions.h, which is generated. */
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
#include "functions.h"

static long work;
static volatile int sink;
static _Atomic long *shared;

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void *other(void *number) {
    for (unsigned i = (unsigned)(long)number;; i++) {
        sink = functions[i % FUNCTIONS]();
        for (long end = now() + work; work && now() < end;) {}
        usleep(20000);
    }
    return NULL;
}

static void spin(void) {
    for (long before = now(), at; shared[0]; before = at) {
        at = now();
        if (at - before > shared[1]) shared[1] = at - before;
        shared[2]++;
    }
}

int main(int argc, char **argv) {
    int threads = atoi(argv[1]), file = open(argv[3], O_RDWR);
    pthread_t t;
    pthread_attr_t small;
    struct sched_param real_time = {.sched_priority = 5};
    if (argc < 4 || file < 0) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(900);
    if (!strcmp(argv[2], "busy")) work = threads > 1 ? 16000000 / (threads - 1) : 0;
    else sched_setscheduler(0, SCHED_FIFO, &real_time);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (long i = 1; i < threads; i++)
        if (pthread_create(&t, &small, other, (void *)i)) return 1;
    sched_setscheduler(0, SCHED_FIFO, &real_time);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        if (shared[0]) spin();
        sink = functions[0]();
        usleep(1000);
    }
}
