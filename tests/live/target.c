/* A target that answers one-letter commands on stdin. argv[1]: number of extra threads. Ends on EOF or after 300 s. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

int first(void) { return 1; }
int second(void) { return 1; }
/* says so, and waits for 'w' */
static void stay(void) {
    char c;
    if (write(1, "inside\n", 7) != 7) return;
    while (read(0, &c, 1) == 1 && c != 'w') {}
}
int slow(void) { stay(); return 1; }
/* slow, far up the stack */
static void deep(int pages) {
    volatile char room[4096];
    room[0] = (char)pages;
    if (pages) deep(pages - 1);
    else stay();
    room[1] = room[0];
}
int high(void) { deep(16); return 1; }

/* a coroutine that is suspended in a function, on memory of malloc that is never used again */
static ucontext_t caller, coroutine;
int paused(void) { swapcontext(&coroutine, &caller); return 1; }
static volatile int kept;
static void body(void) { kept = paused() + 1; }
static void suspend(void) {
    char *stack = malloc(65536);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = 65536;
    coroutine.uc_link = &caller;
    makecontext(&coroutine, body, 0);
    swapcontext(&caller, &coroutine);
}

static atomic_long torn, loops, interrupted, fpu_wrong;
static atomic_int stopping;
static char *altstack;

static void *spin(void *mode) {
    struct timespec t = {0, 2000000};
    int ep = epoll_create1(0), kind = (int)(long)mode;
    while (!stopping) {
        if (kind == 0) { int a = first(), b = first(); if (b < a && b != 1) torn++; if (kind) torn++; }
        else if (kind == 1) { struct epoll_event e; if (epoll_wait(ep, &e, 1, 3) < 0) interrupted++; }
        else if (kind == 2) { if (nanosleep(&t, NULL) < 0) interrupted++; }
        else if (kind == 3) { if (poll(NULL, 0, 3) < 0) interrupted++; }
        else {
            volatile double x = 1.0; double s = 0;
            for (int i = 1; i < 1000; i++) { s += x / i; }
            static double once; if (once == 0) once = s; if (s != once) fpu_wrong++;
        }
        loops++;
    }
    return NULL;
}

/* a child forked by another thread than the main one: its leader stays on that thread's stack */
static void *forking(void *u) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { for (;;) pause(); }
    printf("%d\n", child);
    return u;
}
static void on_signal(int s) { (void)s; slow(); }
static void on_other_signal(int s) { (void)s; }
/* a seccomp filter, read as "FLAGS HEX" from the rest of the line; with 's' strict mode */
static const char *confine(void) {
    /* not static: the contexts above stay in the page that the file fills, where nobody takes them for stacks */
    char *filter_text = malloc(65536);
    struct sock_filter *filter_code = calloc(4096, sizeof *filter_code);
    unsigned flags = 0;
    size_t size = 0;
    char c;
    while (read(0, &c, 1) == 1 && c != '\n') filter_text[size++] = c;
    filter_text[size] = 0;
    if (filter_text[0] == 's') return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) ? "failed" : "confined";
    char *hex = strchr(filter_text, ' ') + 1;
    flags = atoi(filter_text);
    for (size = 0; hex[2 * size]; size++) sscanf(hex + 2 * size, "%2hhx", (unsigned char *)filter_code + size);
    struct sock_fprog program = {.len = size / 8, .filter = filter_code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) ? "failed" : "confined";
}
/* a thread that confines itself alone, and waits in read for ever */
static int nobody_writes[2];
static atomic_int is_confined;
static void *confined(void *u) {
    char c;
    const char *said = confine();
    if (write(1, said, strlen(said)) < 0 || write(1, "\n", 1) < 0) return u;
    is_confined = 1;
    while (read(nobody_writes[0], &c, 1) == 1) {}
    return u;
}
/* a thread with a name of its own, which calls first or faults when it is told to */
static atomic_int named_does;
static void *named(void *u) {
    prctl(PR_SET_NAME, "named 1");
    named_does = 1;
    while (named_does == 1) usleep(1000);
    if (named_does == 3) *(volatile int *)8 = 1;
    named_does = first();
    return u;
}
static void *idle(void *u) { (void)u; while (!stopping) pause(); return NULL; }

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    long mode = argc > 2 ? atol(argv[2]) : -1;
    pthread_t t;
    alarm(300);
    altstack = malloc(65536);
    stack_t ss = {.ss_sp = altstack, .ss_size = 65536}, now;
    sigaltstack(&ss, NULL);
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGUSR1, &sa, NULL);
    signal(SIGUSR2, on_other_signal);
    for (int i = 0; i < threads; i++) pthread_create(&t, NULL, mode == -1 ? idle : spin, (void *)mode);
    char c;
    printf("ready\n"); fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'a') printf("%d %d %d\n", first(), second(), first());
        if (c == 's') printf("%d\n", slow());
        if (c == 'h') printf("%d\n", high());
        if (c == 'c') printf("%ld %ld %ld %ld\n", torn, loops, interrupted, fpu_wrong);
        if (c == 'k') { sigaltstack(NULL, &now); printf("%d %d %zu\n", now.ss_sp == altstack, now.ss_flags, now.ss_size); }
        if (c == 'y') { suspend(); printf("suspended\n"); }
        if (c == 'e') { swapcontext(&caller, &coroutine); printf("ended\n"); }
        if (c == 'F') { pthread_create(&t, NULL, forking, NULL); pthread_join(t, NULL); }
        if (c == 'q') { printf("%s\n", confine()); }
        if (c == 'Q') { if (pipe(nobody_writes)) return 1; pthread_create(&t, NULL, confined, NULL); while (!is_confined) usleep(1000); }
        if (c == 'n') { pthread_create(&t, NULL, named, NULL); while (!named_does) usleep(1000); printf("named\n"); }
        if (c == 'N') named_does = 2;
        if (c == 'X') named_does = 3;
        if (c == 'x') execv("/proc/self/exe", argv);
        if (c == 'f') { fflush(stdout); if (fork() == 0) { printf("%d %d\n", first(), second()); fflush(stdout); _exit(0); } wait(NULL); }
        fflush(stdout);
    }
    stopping = 1;
    return 0;
}
