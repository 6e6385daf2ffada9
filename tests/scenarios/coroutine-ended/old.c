#include "harness.h"
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

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
    char *stack = malloc(65536);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = 65536;
    coroutine.uc_link = &caller;
    makecontext(&coroutine, body, 0);
    swapcontext(&caller, &coroutine);
    harness_wait();
    swapcontext(&caller, &coroutine);
    free(stack);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "coroutine %d", work(0));
}
