#include "harness.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { STACK_BYTES = 65536 };

static volatile int rounds = 1;
static ucontext_t caller, coroutine;

KEPT int work(int blocking)
{
    if (blocking)
        swapcontext(&coroutine, &caller);
    return rounds;
}

static void body(void)
{
    work(1);
}

void hold(void)
{
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return;
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = STACK_BYTES;
    coroutine.uc_link = &caller;
    makecontext(&coroutine, body, 0);
    swapcontext(&caller, &coroutine);
    harness_wait();
    swapcontext(&caller, &coroutine);
    munmap(stack, STACK_BYTES);
    memset(&coroutine, 0, sizeof coroutine);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "coroutine %d", work(0));
}
