/* Threads below whose stack pointer is somebody else's data, and threads that never leave the kernel. argv: MODE.
   a: what first() and second() answer; c: how many bytes below those stacks are not what they were, -1: not yet. */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STACK = 16384, BELOW = 65536, LEFT = 1800, THREADS = 4 };
int first(void) { return 1; }
int second(void) { return 1; }

static unsigned char *below[THREADS];
static int watched, awaited;
static atomic_int arrived;
static void watch(unsigned char *bytes) {
    memset(bytes, 0xA5, BELOW);
    below[watched++] = bytes;
}
static void waits(int timed) {
    struct timespec while_ = {300, 0};
    long value;
    int never = eventfd(0, 0);
    arrived++;
    for (;;) if (timed) nanosleep(&while_, NULL); else if (read(never, &value, 8)) continue;
}
/* until LEFT bytes are left above `low` */
__attribute__((noinline)) static int deep(char *low, int timed) {
    volatile char used[64];
    used[0] = 1;
    if ((char *)used - low > LEFT) return deep(low, timed) + used[0];
    waits(timed);
    return used[0];
}
static void *on_small_stack(void *low) { deep(low, 0); return NULL; }
static void small_stacks(void) {
    for (int i = 0; i < THREADS; i++) {
        unsigned char *all = malloc(BELOW + STACK + 16); /* on the heap */
        char *stack = (char *)((unsigned long)(all + BELOW + 15) & -16);
        pthread_attr_t attributes;
        pthread_t thread;
        watch(all);
        pthread_attr_init(&attributes);
        pthread_attr_setstack(&attributes, stack, STACK);
        if (pthread_create(&thread, &attributes, on_small_stack, stack)) exit(1);
    }
}
static char *alternate;
static void handler(int number) { (void)number; deep(alternate, 0); }
static void handle(char *stack) {
    stack_t given = {.ss_sp = alternate = stack, .ss_size = STACK};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaltstack(&given, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}
static void ring(int polls) {
    struct io_uring_params made = {.flags = polls ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 600000};
    int fd = (int)syscall(SYS_io_uring_setup, 8, &made), ends[2];
    static char byte;
    if (fd < 0) exit(3);
    if (polls) return;
    char *queue = mmap(NULL, made.sq_off.array + made.sq_entries * 4, 3, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, made.sq_entries * sizeof *entry, 3, MAP_SHARED, fd, IORING_OFF_SQES);
    if (pipe(ends)) exit(3);
    *entry = (struct io_uring_sqe){.opcode = IORING_OP_READ, .flags = IOSQE_ASYNC, .fd = ends[0],
                                   .addr = (unsigned long)&byte, .len = 1, .off = -1};
    ((unsigned *)(queue + made.sq_off.array))[0] = 0;
    __atomic_store_n((unsigned *)(queue + made.sq_off.tail), 1, __ATOMIC_RELEASE);
    syscall(SYS_io_uring_enter, fd, 1, 0, 0, NULL, 0);
}
static void *answering(void *u) {
    for (char c; read(0, &c, 1) == 1; fflush(stdout)) {
        if (c == 'a') printf("%d %d\n", first(), second());
        if (c == 'c') {
            long changed = watched && arrived >= awaited ? 0 : -1;
            if (!changed) for (int i = 0; i < watched; i++) for (int k = 0; k < BELOW; k++) changed += below[i][k] != 0xA5;
            printf("%ld\n", changed);
        }
    }
    exit(0);
    return u;
}
static void ready(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, answering, NULL)) exit(1);
    usleep(100000);
    printf("ready\n");
    fflush(stdout);
}
/* what is watched lies right below the alternate stack, where frames of the interrupted function would be */
__attribute__((noinline)) static void within(void) {
    struct { unsigned char low[BELOW]; char stack[STACK]; } frame;
    watch(frame.low);
    handle(frame.stack);
}
int main(int count, char **argv) {
    const char *mode = argv[count - 1];
    alarm(300);
    awaited = !strcmp(mode, "small") ? THREADS + 1 : 1; /* the main thread's own, or its handler's */
    if (!strcmp(mode, "small")) small_stacks();
    if (!strcmp(mode, "poller") || !strcmp(mode, "worker")) ring(!strcmp(mode, "poller"));
    ready();
    if (!strcmp(mode, "alternate")) {
        unsigned char *all = malloc(BELOW + STACK);
        watch(all);
        handle((char *)all + BELOW);
    }
    if (!strcmp(mode, "within")) within();
    waits(1);
}
