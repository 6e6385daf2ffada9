/* A target that notices everything a stop could do to it. Answers one-letter commands on stdin; ends on EOF or after an hour.

   Every thread but two has one way to wait, all day long, and counts: rounds, calls that said EINTR, calls that came back
   before their time or without what they waited for, and anything of its own that is not as it was before: alternate
   stack, signal mask, the registration of its rseq area. Of the others `floating` keeps a pattern in all
   x87, SSE, AVX and AVX-512 registers and in their control words, and `sequences` counts in restartable sequences.
   `signalled` handles the signals that `sender` sends, on its alternate stack: no other signal may come, and none twice.

   Threads bear these names. c: one line "NAME ROUNDS INTERRUPTED EARLY CHANGED" for each thread, then ".". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <cpuid.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/rseq.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int first(void) { return 1; }
int second(void) { return 1; }

enum { WAIT_MS = 3, STACK = 65536, CPUS = 1024 };
struct thread {
    const char *name;
    int (*wait)(struct thread *);
    int fd, other;
    atomic_long rounds, interrupted, early, changed;
    char *stack;
    sigset_t mask;
};
static atomic_long strange_signals, sent, handled;

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

/* --- ways to wait: 0: as it should be; -1 with errno: failed; 1: came back with the wrong thing -------------------- */

static int in_time(struct thread *t, long began, int failed) {
    if (failed) return -1;
    if (now() - began < WAIT_MS * 1000000L) t->early++;
    return 0;
}
static struct timespec wait_time(void) { return (struct timespec){0, WAIT_MS * 1000000}; }
static int in_epoll_wait(struct thread *t) {
    struct epoll_event e;
    long began = now();
    return in_time(t, began, epoll_wait(t->fd, &e, 1, WAIT_MS) != 0);
}
static int in_poll(struct thread *t) {
    long began = now();
    return in_time(t, began, poll(NULL, 0, WAIT_MS) != 0);
}
static int in_select(struct thread *t) {
    struct timeval time = {0, WAIT_MS * 1000};
    long began = now();
    return in_time(t, began, select(0, NULL, NULL, NULL, &time) != 0);
}
static int in_nanosleep(struct thread *t) {
    struct timespec time = wait_time();
    long began = now();
    return in_time(t, began, nanosleep(&time, NULL));
}
static int in_clock_nanosleep(struct thread *t) {
    long began = now(), end = began + WAIT_MS * 1000000L;
    struct timespec time = {end / 1000000000, end % 1000000000};
    int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    errno = error;
    return in_time(t, began, error);
}
/* Nobody wakes it: 0 would be a wake-up out of nothing. */
static int futex_wait(struct thread *t, int operation, const struct timespec *time, long began) {
    static uint32_t word = 7;
    long result = syscall(SYS_futex, &word, operation, 7, time, NULL, FUTEX_BITSET_MATCH_ANY);
    if (result != -1) return 1;
    return in_time(t, began, errno != ETIMEDOUT);
}
static int in_futex(struct thread *t) {
    struct timespec time = wait_time();
    return futex_wait(t, FUTEX_WAIT_PRIVATE, &time, now());
}
static int in_futex_bitset(struct thread *t) {
    long began = now(), end = began + WAIT_MS * 1000000L;
    struct timespec time = {end / 1000000000, end % 1000000000};
    return futex_wait(t, FUTEX_WAIT_BITSET_PRIVATE, &time, began);
}
static int in_sigtimedwait(struct thread *t) {
    struct timespec time = wait_time();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    long began = now();
    int signal = sigtimedwait(&set, NULL, &time);
    return in_time(t, began, signal != -1 || errno != EAGAIN);
}
static int in_recv(struct thread *t) {
    char c;
    long began = now();
    ssize_t size = recv(t->fd, &c, 1, 0);
    return in_time(t, began, size != -1 || errno != EAGAIN);
}
/* Without a time: somebody sends one byte, or connects, every few milliseconds. */
static int in_read(struct thread *t) {
    unsigned char c;
    ssize_t size = read(t->fd, &c, 1);
    if (size < 0) return -1;
    return size != 1 || c != (unsigned char)t->rounds;
}
static int in_accept(struct thread *t) {
    int fd = accept(t->fd, NULL, NULL);
    if (fd < 0) return -1;
    close(fd);
    return 0;
}
static int in_writing(struct thread *t) {
    unsigned char c = (unsigned char)t->rounds;
    if (write(t->fd, &c, 1) != 1) return -1;
    usleep(2000);
    return 0;
}
static int in_connecting(struct thread *t) {
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    getsockname(t->other, (struct sockaddr *)&at, &size);
    int fd = socket(AF_INET, SOCK_STREAM, 0), failed = connect(fd, (struct sockaddr *)&at, size);
    struct linger at_once = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    usleep(2000);
    return failed;
}

/* --- registers of floating point: what XRSTOR put there XSAVE must find, with nothing but a loop between ------------- */

static struct { _Alignas(64) unsigned char bytes[16384]; } pattern, found;
static uint32_t area_bytes;
static void pattern_make(void) {
    uint32_t a, b, c, d;
    __cpuid_count(13, 0, a, b, c, d);
    area_bytes = b;
    __asm__ volatile("xsave64 %0" : "+m"(pattern) : "a"(0xE7), "d"(0) : "memory");
    memset(pattern.bytes + 512, 0, 64);
    pattern.bytes[0] = 0x7F, pattern.bytes[1] = 0x0F; /* x87: round to zero */
    pattern.bytes[25] = 0x7F;                         /* SSE: the same */
    for (int i = 32; i < 416; i++) pattern.bytes[i] = (unsigned char)(i * 37 + 1);
    for (int i = 0; i < 8; i++) memset(pattern.bytes + 32 + 16 * i + 10, 0, 6); /* an x87 register has ten bytes */
    memset(pattern.bytes + 4, 0xFF, 1); /* none of them empty */
    uint64_t has = 3;
    __cpuid_count(13, 0, a, b, c, d);
    for (int component = 2; component < 8; component++) {
        if (component == 3 || component == 4 || !(a >> component & 1)) continue;
        uint32_t size, offset, x, y;
        __cpuid_count(13, component, size, offset, x, y);
        for (uint32_t i = 0; i < size; i++) pattern.bytes[offset + i] = (unsigned char)(i * 41 + component);
        has |= 1UL << component;
    }
    memcpy(pattern.bytes + 512, &has, 8);
}
static int in_floating(struct thread *t) {
    (void)t;
    __asm__ volatile(
        "xrstor64 %[in]\n mov $100000, %%ecx\n 1: dec %%ecx\n jnz 1b\n xsave64 %[out]\n"
        "fninit\n mov $0x1f80, %%ecx\n push %%rcx\n ldmxcsr (%%rsp)\n pop %%rcx\n"
        : [out] "+m"(found) : [in] "m"(pattern), "a"(0xE7), "d"(0)
        : "rcx", "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)", "xmm0", "xmm1", "xmm2",
          "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    /* not compared: the last x87 instruction's address, and which components the processor calls in use */
    return memcmp(found.bytes, pattern.bytes, 6) || memcmp(found.bytes + 24, pattern.bytes + 24, 4) ||
           memcmp(found.bytes + 32, pattern.bytes + 32, 384) ||
           memcmp(found.bytes + 576, pattern.bytes + 576, area_bytes - 576);
}

/* --- restartable sequences: as many as were begun have ended, each once ---------------------------------------------- */

static struct { _Alignas(64) long count; } per_cpu[CPUS];
static atomic_long counted;
static atomic_int quiet, resting;
static struct rseq *area(void) { return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset); }
static int count_here(struct rseq *r, uint32_t cpu) {
    __asm__ goto(
        ".pushsection __rseq_cs, \"aw\"\n .balign 32\n 3: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n .popsection\n"
        "leaq 3b(%%rip), %%rax\n movq %%rax, %[cs]\n"
        "1: cmpl %[cpu], %[current]\n jnz 4f\n movq %[count], %%rcx\n"
        "mov $300, %%eax\n 5: dec %%eax\n jnz 5b\n" /* long enough to be met inside */
        "incq %%rcx\n movq %%rcx, %[count]\n 2:\n"
        ".pushsection __rseq_failure, \"ax\"\n .byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n 4: jmp %l[aborted]\n .popsection\n"
        : : [cs] "m"(r->rseq_cs), [cpu] "r"(cpu), [current] "m"(r->cpu_id), [count] "m"(per_cpu[cpu].count)
        : "rax", "rcx", "memory", "cc" : aborted);
    return 1;
aborted:
    return 0;
}
static int in_sequences(struct thread *t) {
    (void)t;
    struct rseq *r = area();
    if (quiet) {
        resting++;
        while (quiet) usleep(100);
        resting--;
    }
    for (int i = 0; i < 2000; i++) {
        while (!count_here(r, r->cpu_id_start)) {}
        counted++;
    }
    return 0;
}

/* --- signals --------------------------------------------------------------------------------------------------------- */

static pthread_t signalled;
static struct thread *signalled_thread;
static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    char here;
    if (number != SIGRTMIN || info->si_pid != getpid()) { strange_signals++; return; }
    if (&here < signalled_thread->stack || &here >= signalled_thread->stack + STACK) signalled_thread->changed++;
    if (info->si_value.sival_int != (int)++handled) signalled_thread->early++;
    for (volatile int i = 0; i < 100000; i++) {}
}
static int in_signalled(struct thread *t) { (void)t; for (volatile int i = 0; i < 10000; i++) {} return 0; }
static int in_sender(struct thread *t) {
    (void)t;
    if (!signalled_thread->rounds) { usleep(1000); return 0; } /* it has no alternate stack yet */
    if (sent - handled < 5) pthread_sigqueue(signalled, SIGRTMIN, (union sigval){.sival_int = (int)++sent});
    usleep(1000);
    return 0;
}

/* --- threads --------------------------------------------------------------------------------------------------------- */

/* The alternate stack, the mask and the rseq area are as this thread left them. */
static int is_as_before(struct thread *t) {
    stack_t stack;
    sigset_t mask;
    sigaltstack(NULL, &stack);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (stack.ss_sp != t->stack || stack.ss_size != STACK || stack.ss_flags) return 0;
    for (int i = 1; i < NSIG; i++) if (sigismember(&mask, i) != sigismember(&t->mask, i)) return 0;
    if (!__rseq_size) return 1;
    unsigned cpu;
    getcpu(&cpu, NULL);
    struct rseq *r = area();
    if (t->wait != in_sequences && r->rseq_cs) return 0;
    for (int tries = 0; tries < 5; tries++) { /* it may be moved to another processor between two looks */
        unsigned now = *(volatile uint32_t *)&r->cpu_id, start = *(volatile uint32_t *)&r->cpu_id_start;
        if (now < CPUS && now == start) return 1;
    }
    return 0;
}
static void settle(struct thread *t) {
    stack_t stack = {.ss_sp = t->stack = malloc(STACK), .ss_size = STACK};
    sigaltstack(&stack, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &t->mask);
    sigaddset(&t->mask, t == signalled_thread ? SIGUSR2 : SIGUSR1); /* masks differ */
    pthread_sigmask(SIG_SETMASK, &t->mask, NULL);
}
static void *work(void *argument) {
    struct thread *t = argument;
    pthread_setname_np(pthread_self(), t->name);
    settle(t);
    for (;; t->rounds++) {
        int result = t->wait(t);
        if (result < 0 && errno == EINTR) t->interrupted++;
        else if (result) t->early++;
        if (!is_as_before(t)) t->changed++;
    }
    return NULL;
}

static struct thread threads[] = {
#define WAITS(what) {.name = #what, .wait = in_##what}
    WAITS(epoll_wait), WAITS(poll), WAITS(select), WAITS(nanosleep), WAITS(clock_nanosleep), WAITS(futex),
    WAITS(futex_bitset), WAITS(sigtimedwait), WAITS(recv), WAITS(read), WAITS(accept), WAITS(writing),
    WAITS(connecting), WAITS(floating), WAITS(sequences), WAITS(sequences), WAITS(signalled), WAITS(sender),
};
#define COUNT (sizeof threads / sizeof *threads)
static struct thread *named(const char *name) {
    for (size_t i = 0; i < COUNT; i++) if (!strcmp(threads[i].name, name)) return &threads[i];
    abort();
}

static struct thread main_thread = {.name = "main"};
static void tell(void) {
    long here = 0;
    if (!is_as_before(&main_thread)) main_thread.changed++;
    printf("main 1 0 0 %ld\n", (long)main_thread.changed);
    quiet = 1;
    while (resting != 2) usleep(100);
    for (size_t i = 0; i < COUNT; i++) {
        struct thread *t = &threads[i];
        printf("%s %ld %ld %ld %ld\n", t->name, (long)t->rounds, (long)t->interrupted, (long)t->early, (long)t->changed);
    }
    for (int i = 0; i < CPUS; i++) here += per_cpu[i].count;
    printf("lost-sequences %ld 0 0 %ld\n", (long)counted, counted - here);
    printf("strange-signals %ld 0 0 %ld\n.\n", (long)handled, (long)strange_signals);
    quiet = 0;
}

int main(void) {
    int ends[2], pair[2];
    struct timeval timeout = {0, WAIT_MS * 1000};
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_ONSTACK | SA_SIGINFO | SA_RESTART};
    char c;
    signalled_thread = named("signalled");
    for (int i = 1; i < NSIG; i++) if (i != SIGALRM && i != SIGRTMAX && i != SIGSEGV) sigaction(i, &action, NULL);
    alarm(3600);
    pattern_make();
    if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    named("recv")->fd = pair[0];
    named("epoll_wait")->fd = epoll_create1(0);
    named("read")->fd = ends[0], named("writing")->fd = ends[1];
    int server = named("accept")->fd = named("connecting")->other = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&loopback, sizeof loopback) || listen(server, 16)) return 1;
    for (size_t i = 0; i < COUNT; i++) {
        pthread_t made;
        if (pthread_create(&made, NULL, work, &threads[i])) return 1;
        if (&threads[i] == signalled_thread) signalled = made;
    }
    settle(&main_thread);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'a') printf("%d %d\n", first(), second());
        if (c == 'c') tell();
        fflush(stdout);
    }
    return 0;
}
