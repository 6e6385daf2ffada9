/* A coroutine on a stack that does not look like one. argv: MODE. y: it is suspended in paused(), or has been in it.
   e: it goes on and leaves its function, where it ends. a: paused's number. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

enum { SMALL = 32 << 10, LARGE = 256 << 10, CHUNK = 16 << 20, GUARD_INSTALL = 102 };
static const char *mode;
static int is(const char *name) { return !strcmp(mode, name); }

/* switched by assembler, as Boost.Context and PHP do it */
void change(void **save, void *to);
__asm__("change: push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15; mov %rsp,(%rdi); mov %rsi,%rsp;"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret");
static void *caller, *fiber, *neighbour;
static void *made(char *top, void (*first)(void)) {
    void **at = (void **)(top - 64);
    *--at = NULL; /* where `first` would return to */
    *--at = (void *)first;
    for (int i = 0; i < 6; i++) *--at = NULL;
    return at;
}
static ucontext_t before, context;
static int plain, done;
static volatile int kept;
int paused(void) {
    if (!plain && is("heap")) swapcontext(&context, &before);
    else if (!plain) change(&fiber, caller);
    return 1;
}
static void body(void) { kept = paused() + 1; }
static void fiber_body(void) {
    body();
    done = 1;
    for (;;) change(&fiber, caller);
}
/* the first function itself changes */
void paused_first(void) {
    kept = 1;
    change(&fiber, caller);
    done = 1;
    for (;;) change(&fiber, caller);
}
static void handler(int number) { kept = number; }
static void interrupted_body(void) {
    raise(SIGUSR1);
    for (;;) change(&neighbour, caller);
}
static void on_alternate(int number) {
    plain = 1;
    kept = paused() + number;
    plain = 0;
    done = 1;
}
static char *stack;
static void begin(void) {
    if (is("heap")) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = LARGE;
        context.uc_link = &before;
        makecontext(&context, body, 0);
        swapcontext(&before, &context);
    } else if (is("alternate")) {
        struct itimerval soon = {.it_value = {0, 1000}};
        setitimer(ITIMER_REAL, &soon, NULL);
        while (!done) usleep(1000); /* not pause: the signal may come right before it */
    } else {
        if (is("neighbour")) change(&caller, neighbour = made(stack + 2 * SMALL, interrupted_body));
        fiber = is("first") ? made(stack + SMALL, paused_first)
              : is("chunk") ? made(stack + CHUNK + 112, fiber_body) : made(stack + SMALL, fiber_body);
        change(&caller, fiber);
    }
}
int main(int count, char **argv) {
    char c;
    mode = argv[count - 1];
    signal(SIGUSR1, handler);
    if (is("heap")) stack = malloc(LARGE);
    else {
        stack = mmap(NULL, CHUNK + 2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(stack + CHUNK + LARGE, LARGE, PROT_NONE); /* a mapping apart from what lies above */
        memset(stack, 1, CHUNK + LARGE);
        if (is("guarded")) madvise(stack + SMALL, 4096, GUARD_INSTALL);
    }
    if (is("alternate")) {
        stack_t given = {.ss_sp = stack, .ss_size = SMALL};
        struct sigaction action = {.sa_handler = on_alternate, .sa_flags = SA_ONSTACK};
        sigaltstack(&given, NULL);
        sigaction(SIGALRM, &action, NULL);
    }
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'y') { begin(); printf("suspended\n"); }
        if (c == 'e') {
            if (is("heap")) swapcontext(&before, &context); else change(&caller, fiber);
            printf("ended\n");
        }
        if (c == 'a') { plain = 1; printf("%d\n", paused()); plain = 0; }
        fflush(stdout);
    }
    return 0;
}
