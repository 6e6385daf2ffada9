/* The stop window of window.py: what happens to every thread of a process between the first interrupt and the last
   detach. window.py has the same in Python, and a scan that can say more than "certainly clear"; see there for why each
   step is made. No part of the Python interface is used: the library is loaded with ctypes. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define REGISTERS 27
enum { R_RAX = 10, R_RDX = 12, R_RSI = 13, R_GENERAL = 15, R_ORIG_RAX = 15, R_RIP = 16, R_RSP = 19, R_FS_BASE = 21 };
enum { WAITING, STOPPED, DEAD, JOB_CONTROL };
enum { CALLS = 512, BATCH = 256, EVENT_STOP = 128, ERESTARTNOHAND = 514 };
enum { IOCTL = 16, TCSBRK = 0x5409, FALLOCATE = 285, FALLOCATE_REPEATABLE = 0x53 };

struct thread {
    int32_t tid;
    uint8_t state, clear;
    uint16_t signal;
    uint64_t registers[REGISTERS];
};

struct scene {
    int32_t pid;
    uint32_t maps, ranges, restorers, firsts;
    const uint64_t *map_starts, *map_ends;     /* sorted, half open */
    const uint64_t *range_starts, *range_ends; /* sorted by start; a word w hits where start < w <= end */
    const uint64_t *restorer, *first;          /* first: sorted starts of ranges that are a hit for a PC */
    uint64_t probes_start, probes_bytes; /* what return probes lead to: a hit as well */
    uint64_t main_stack_end, range_low, range_high;
    uint64_t *buffer, buffer_bytes;
};

static const char identity[] = SOURCE_SHA256;
const char *window_identity(void) { return identity; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int repeatable(const uint64_t *registers, const uint8_t *restartable) {
    uint64_t call = registers[R_ORIG_RAX];
    if (call == FALLOCATE) return !((uint32_t)registers[R_RSI] & ~(uint32_t)FALLOCATE_REPEATABLE);
    if (call == IOCTL) return (uint32_t)registers[R_RSI] == TCSBRK && registers[R_RDX];
    return call < CALLS && restartable[call];
}

/* Ask once; the thread's state tells what came of it. An interrupted call is mended at once. The stop stays unreported
   (WNOWAIT): the kernel forgets a signal that it has reported, should this tracer be killed. */
static void collect(struct thread *t, const uint8_t *restartable) {
    siginfo_t found = {0};
    int failed = waitid(P_PID, (id_t)t->tid, &found, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL);
    if (!failed && !found.si_pid) return;
    t->state = DEAD;
    if (failed) return;
    if (found.si_code != CLD_TRAPPED) {
        waitpid(t->tid, NULL, WNOHANG | __WALL);
        return;
    }
    int signal = found.si_status & 0xFF, event = found.si_status >> 8;
    if (ptrace(PTRACE_GETREGS, t->tid, NULL, t->registers)) return;
    if ((int64_t)t->registers[R_RAX] == -EINTR && repeatable(t->registers, restartable)) {
        t->registers[R_RAX] = (uint64_t)-ERESTARTNOHAND;
        if (ptrace(PTRACE_SETREGS, t->tid, NULL, t->registers)) return;
    }
    t->signal = event ? 0 : (uint16_t)signal;
    t->state = event == EVENT_STOP && signal != SIGTRAP ? JOB_CONTROL : STOPPED;
}

void window_interrupt(struct thread *threads, size_t count) {
    for (struct thread *t = threads; t < threads + count; t++)
        if (t->state == WAITING && ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL)) t->state = DEAD;
}

/* Return how many threads are still awaited. */
size_t window_collect(struct thread *threads, size_t count, const uint8_t *restartable) {
    size_t left = 0;
    for (struct thread *t = threads; t < threads + count; t++) {
        if (t->state == WAITING) collect(t, restartable);
        left += t->state == WAITING;
    }
    return left;
}

/* Collect until nobody is awaited, job control shows, or CLOCK_MONOTONIC passes `limit`; sleep `least` seconds between
   two rounds, and `share` of the time waited so far: a late thread needs a processor itself. */
size_t window_await(struct thread *threads, size_t count, const uint8_t *restartable, double limit, double least,
                    double share) {
    double began = now();
    for (size_t left;;) {
        if (!(left = window_collect(threads, count, restartable))) return 0;
        for (size_t i = 0; i < count; i++)
            if (threads[i].state == JOB_CONTROL) return left;
        double at = now(), rest = (at - began) * share;
        if (at > limit) return left;
        if (rest < least) rest = least;
        struct timespec t = {(time_t)rest, (long)((rest - (double)(time_t)rest) * 1e9)};
        nanosleep(&t, NULL);
    }
}

/* One that was killed where it stood cannot be let go: it is awaited. */
void window_detach(struct thread *threads, size_t count) {
    for (struct thread *t = threads; t < threads + count; t++)
        if ((t->state == STOPPED || t->state == JOB_CONTROL) &&
            ptrace(PTRACE_DETACH, t->tid, NULL, (void *)(uintptr_t)t->signal))
            t->state = WAITING;
}

/* The last of `count` sorted values that is below `value` (`or_equal`: or equals it); -1 where there is none. */
static ptrdiff_t last_below(const uint64_t *values, size_t count, uint64_t value, int or_equal) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (values[middle] < value || (or_equal && values[middle] == value)) low = middle + 1;
        else high = middle;
    }
    return (ptrdiff_t)low - 1;
}

static int hits(const struct scene *s, uint64_t word) {
    if (word <= s->range_low || word > s->range_high) return 0;
    ptrdiff_t at = last_below(s->range_starts, s->ranges, word, 0);
    return at >= 0 && word <= s->range_ends[at];
}

static int probed(const struct scene *s, uint64_t word) { return word - s->probes_start < s->probes_bytes; }

static int stands_in(const struct scene *s, uint64_t pc) {
    ptrdiff_t at = last_below(s->first, s->firsts, pc, 1);
    return (at >= 0 && s->first[at] == pc) || hits(s, pc) || probed(s, pc);
}

/* The end of the mapping that holds `address`; 0 where none does. */
static uint64_t mapping_end(const struct scene *s, uint64_t address) {
    ptrdiff_t at = last_below(s->map_starts, s->maps, address, 1);
    return at >= 0 && address < s->map_ends[at] ? s->map_ends[at] : 0;
}

/* How many bytes of stack are to be read; 0 where the thread, or whose stack it is on, needs a closer look. */
static uint64_t stack_bytes(const struct scene *s, const struct thread *t) {
    const uint64_t *r = t->registers;
    if (t->state != STOPPED || stands_in(s, r[R_RIP]) || r[R_RSP] % 8) return 0;
    for (int i = 0; i < R_GENERAL; i++)
        if (hits(s, r[i])) return 0;
    uint64_t sp = r[R_RSP], block = r[R_FS_BASE], end = mapping_end(s, sp);
    if (!end) return 0;
    if (t->tid == s->pid) return end == s->main_stack_end ? end - sp : 0;
    return sp < block && block % 8 == 0 && end == mapping_end(s, block) ? block + 8 - sp : 0;
}

/* Whether what was read of a stack ends with a thread's block, which names itself. */
static int is_topped(const struct scene *s, const struct thread *t, const uint64_t *words, size_t count) {
    return t->tid == s->pid || words[count - 1] == t->registers[R_FS_BASE];
}

static int all_clear(const struct scene *s, const uint64_t *words, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (hits(s, words[i]) || probed(s, words[i])) return 0;
        for (uint32_t k = 0; k < s->restorers; k++)
            if (words[i] == s->restorer[k]) return 0;
    }
    return 1;
}

/* Read the stacks of some threads in one call and look at them. */
static void clear_batch(const struct scene *s, struct thread **batch, struct iovec *remote, size_t count) {
    size_t total = 0, at = 0;
    for (size_t i = 0; i < count; i++) total += remote[i].iov_len;
    struct iovec local = {s->buffer, total};
    if (!count || process_vm_readv(s->pid, &local, 1, remote, count, 0) != (ssize_t)total) return;
    for (size_t i = 0; i < count; i++) {
        const uint64_t *words = s->buffer + at;
        size_t length = remote[i].iov_len / 8;
        batch[i]->clear = is_topped(s, batch[i], words, length) && all_clear(s, words, length);
        at += length;
    }
}

/* Mark the threads that are certainly in none of the ranges; return how many are not marked. When CLOCK_MONOTONIC has
   passed `limit` nothing more is read: it is looked at after each eighth of the buffer, or one long stack. */
size_t window_clear(const struct scene *s, struct thread *threads, size_t count, double limit) {
    struct thread *batch[BATCH];
    struct iovec remote[BATCH];
    size_t waiting = 0, unclear = 0;
    uint64_t total = 0;
    for (struct thread *t = threads; t < threads + count; t++) t->clear = 0;
    for (struct thread *t = threads; t < threads + count; t++) {
        uint64_t bytes = stack_bytes(s, t);
        if (!bytes || bytes > s->buffer_bytes) continue;
        if (waiting == BATCH || (waiting && total + bytes > s->buffer_bytes / 8)) {
            clear_batch(s, batch, remote, waiting);
            waiting = total = 0;
            if (now() > limit) break;
        }
        batch[waiting] = t;
        remote[waiting++] = (struct iovec){(void *)(uintptr_t)t->registers[R_RSP], bytes};
        total += bytes;
    }
    clear_batch(s, batch, remote, waiting);
    for (struct thread *t = threads; t < threads + count; t++) unclear += t->state == STOPPED && !t->clear;
    return unclear;
}
