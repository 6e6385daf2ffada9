/* Threads that are in code that changes, and little on their own stack tells of it. argv: MODE. Prints where that code is. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define CHANGED __attribute__((noinline, section("changed")))
extern char __start_changed[], __stop_changed[], part[], part_end[];
enum { OWN = 1 << 20, ABOVE = 256 << 10 };
volatile int turns;
static volatile int there;

/* a part of changed code that a jump leads to: it stays on its own first byte */
asm(".text\n.balign 16\nto_part: jmp part\n.balign 16\npart: jmp part\nnop\nnop\nnop\nret\npart_end: nop\n");
extern void to_part(void);

static ucontext_t caller, coroutine;
static void body(void) { for (there = 1;;) pause(); }
CHANGED void calls_coroutine(void) { swapcontext(&caller, &coroutine); turns++; }
__attribute__((noinline)) void waits(void) { there = 1; pause(); turns++; }
CHANGED void calls_waits(void) { waits(); turns++; }

static void *thread(void *mode) {
    if (!strcmp(mode, "above")) calls_coroutine();
    if (!strcmp(mode, "part") || !strcmp(mode, "interrupted")) there = 1, to_part();
    if (!strcmp(mode, "waits")) calls_waits();
    return NULL;
}
static void handler(int number) { for (there = number;;) pause(); }

int main(int count, char **argv) {
    char *mode = argv[count - 1];
    pthread_attr_t attributes;
    pthread_t one;
    char *own = mmap(NULL, OWN + ABOVE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    alarm(300);
    getcontext(&coroutine);
    coroutine.uc_stack = (stack_t){.ss_sp = own + OWN, .ss_size = ABOVE}; /* one mapping with the thread's own */
    makecontext(&coroutine, body, 0);
    signal(SIGUSR1, handler);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, own, OWN);
    pthread_create(&one, &attributes, thread, mode);
    while (!there) usleep(1000);
    usleep(100000); /* from there to its own place is next to nothing */
    if (!strcmp(mode, "interrupted")) for (pthread_kill(one, SIGUSR1); there != SIGUSR1;) usleep(1000);
    printf("ready\n%lx %lx %lx %lx\n", (long)__start_changed, (long)__stop_changed, (long)part, (long)part_end);
    fflush(stdout);
    for (;;) pause();
}
