/* A coroutine that is made anew on one and the same stack. y: it is suspended in paused(). e: it goes on and ends. a: paused's number. */
#include <stdio.h>
#include <ucontext.h>
#include <unistd.h>

static char stack[65536];
static ucontext_t caller, coroutine;
static int plain;
int paused(void) {
    if (!plain) swapcontext(&coroutine, &caller);
    return 1;
}
static volatile int kept;
static void body(void) { kept = paused() + 1; }

int main(void) {
    char c;
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'y') {
            getcontext(&coroutine);
            coroutine.uc_stack.ss_sp = stack;
            coroutine.uc_stack.ss_size = sizeof stack;
            coroutine.uc_link = &caller;
            makecontext(&coroutine, body, 0);
            swapcontext(&caller, &coroutine);
            printf("suspended\n");
        }
        if (c == 'e') { swapcontext(&caller, &coroutine); printf("ended\n"); }
        if (c == 'a') { plain = 1; printf("%d\n", paused()); plain = 0; }
        fflush(stdout);
    }
    return 0;
}
