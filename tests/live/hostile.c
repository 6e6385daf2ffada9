/* Targets that make it hard. argv: MODE [THREADS]. Answers one-letter commands on stdin. Ends on EOF or after 300 s.
   a: what first() and second() answer; g: the longest time in microseconds in which a spinning thread did not run;
   v: a thread waits in vfork, and its number; w: no longer; m: takes all mappings; e: the first thread ends. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int first(void) { return 1; }
int second(void) { return 1; }
static atomic_int there; /* how many threads are in stays */
int stays(void) { there++; for (;;) pause(); return 1; }

static atomic_long worst;
static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
static void *spinning(void *u) {
    for (long before = now(), at;; before = at) {
        at = now();
        if (at - before > worst) worst = at - before;
    }
    return u;
}
static void *shortly(void *u) { second(); return u; }
static void *churning(void *u) {
    pthread_t t;
    for (;;) if (!pthread_create(&t, NULL, shortly, NULL)) pthread_join(t, NULL);
    return u;
}
static void *staying(void *u) { stays(); return u; }
static void *idling(void *u) { for (;;) pause(); return u; }
static void *forking(void *u) {
    for (;;) {
        pid_t child = vfork();
        if (child == 0) { execl("/bin/sleep", "sleep", "0.01", (char *)0); _exit(1); }
        waitpid(child, NULL, 0);
    }
    return u;
}
static void *spawning(void *u) {
    char *argv[] = {"sleep", "0.01", NULL}, *none[] = {NULL};
    pid_t child;
    for (;;) if (!posix_spawn(&child, "/bin/sleep", NULL, NULL, argv, none)) waitpid(child, NULL, 0);
    return u;
}
static void *allocating(void *u) {
    void *p[64];
    for (;;) {
        for (int i = 0; i < 64; i++) p[i] = malloc(100 + i * 7);
        for (int i = 0; i < 64; i++) free(p[i]);
        second();
    }
    return u;
}
static void on_signal(int number) { (void)number; stays(); }
/* for ever in a handler, on an alternate stack of its own */
static void *handling(void *u) {
    stack_t stack = {.ss_sp = malloc(16384), .ss_size = 16384};
    sigaltstack(&stack, NULL);
    raise(SIGUSR1);
    return u;
}
static atomic_int in_vfork, leaving;
static int child_waits[2];
static void *forking_slowly(void *u) {
    char c;
    if (pipe(child_waits)) return u;
    pid_t tid = gettid(), child = vfork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        in_vfork = tid; /* memory is shared: it waits by now */
        _exit(read(child_waits[0], &c, 1) != 1);
    }
    waitpid(child, NULL, 0);
    in_vfork = 0;
    return u;
}
/* as many mappings as may be */
static void take_mappings(void) {
    long size = 1L << 32;
    char *all = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (long at = 0; at < size && !mprotect(all + at, 4096, PROT_NONE); at += 8192) {}
}
static void *answering(void *u) {
    pthread_t t;
    char c;
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'a') printf("%d %d\n", first(), second());
        if (c == 'g') printf("%ld\n", atomic_exchange(&worst, 0) / 1000);
        if (c == 'v') { pthread_create(&t, NULL, forking_slowly, NULL); while (!in_vfork) usleep(1000); printf("%d\n", in_vfork); }
        if (c == 'w') { if (write(child_waits[1], "", 1) != 1) return u; while (in_vfork) usleep(1000); printf("ended\n"); }
        if (c == 'x') {
            void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            printf("%s\n", mprotect(page, 4096, PROT_READ | PROT_EXEC) ? "denied" : "allowed");
            munmap(page, 4096);
        }
        if (c == 'l') { /* may lock as much again as the hard limit allows */
            struct rlimit limit;
            getrlimit(RLIMIT_MEMLOCK, &limit);
            limit.rlim_cur = limit.rlim_max;
            printf("%s\n", setrlimit(RLIMIT_MEMLOCK, &limit) ? "failed" : "raised");
        }
        if (c == 'e') { leaving = 1; printf("leaving\n"); }
        if (c == 'm') { take_mappings(); printf("taken\n"); }
        fflush(stdout);
    }
    _exit(0);
    return u;
}
int main(int argc, char **argv) {
    const char *mode = argv[1];
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    pthread_t t;
    pthread_attr_t small;
    void *(*work)(void *) = idling;
    alarm(300);
    pthread_attr_init(&small);
    if (!strcmp(mode, "churn")) work = churning;
    if (!strcmp(mode, "leaving")) work = staying;
    if (!strcmp(mode, "inside")) { work = staying; pthread_create(&t, NULL, spinning, NULL); }
    if (!strcmp(mode, "spinning")) pthread_create(&t, NULL, spinning, NULL);
    if (!strcmp(mode, "vfork")) work = forking;
    if (!strcmp(mode, "spawn")) work = spawning;
    if (!strcmp(mode, "malloc")) work = allocating;
    if (!strcmp(mode, "handler")) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
        sigaction(SIGUSR1, &action, NULL);
        work = handling;
    }
    if (!strcmp(mode, "deny")) prctl(65, 1L, 0L, 0L, 0L); /* PR_SET_MDWE */
    if (!strcmp(mode, "privileges")) prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L);
    for (int i = 0; i < threads; i++) {
        if (!strcmp(mode, "small")) pthread_attr_setstack(&small, aligned_alloc(4096, 16384), 16384);
        if (pthread_create(&t, &small, work, NULL)) return 1;
    }
    if (work == staying || work == handling) while (there < threads) usleep(1000);
    if (!strcmp(mode, "locked")) { /* more than the limit, which counts for whoever has no CAP_IPC_LOCK */
        struct rlimit limit;
        getrlimit(RLIMIT_MEMLOCK, &limit);
        limit.rlim_cur = 65536;
        if (mlockall(MCL_CURRENT | MCL_FUTURE) || setrlimit(RLIMIT_MEMLOCK, &limit) || setuid(65534)) return 1;
    }
    if (strcmp(mode, "zombie") && strcmp(mode, "leaving")) answering(NULL);
    pthread_create(&t, NULL, answering, NULL);
    if (!strcmp(mode, "leaving")) while (!leaving) usleep(1000);
    pthread_exit(NULL);
}
