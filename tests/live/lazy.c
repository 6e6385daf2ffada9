/* A server with a thread for each guest, which stays inside `serve_guest` until it is let go. VERSION is that of the
   build: 0 the old one, 1 another limit and answer, 2 a second function that changes with it.
   Commands: a answer at once, h hold one more guest, r let the oldest guest go and print its answer, t its thread. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEEP __attribute__((noipa))
#define GUESTS 64

struct guest { int wait[2], done[2]; long asked, answer; pid_t tid; };
static struct guest guests[GUESTS];
static int held, gone;
static volatile long served;

KEEP long scaled(long x)
{
#if VERSION == 2
    return x * 7;
#else
    return x * 3;
#endif
}

KEEP long serve_guest(struct guest *guest, long asked)
{
    char c;
#if VERSION
    if (asked > 100) return -1;
#endif
    if (read(guest->wait[0], &c, 1) != 1) return -1;
    served = served + 1;
    return scaled(asked) + 5 + !!VERSION;
}

static void *body(void *context)
{
    struct guest *guest = context;
    guest->tid = gettid();
    if (write(guest->done[1], "s", 1) != 1) abort();
    guest->answer = serve_guest(guest, guest->asked);
    if (write(guest->done[1], "d", 1) != 1) abort();
    return context;
}

static struct guest *begin(long asked, int number)
{
    struct guest *guest = &guests[number];
    pthread_t thread;
    char c;
    guest->asked = asked;
    if (pipe(guest->wait) || pipe(guest->done)) abort();
    pthread_create(&thread, NULL, body, guest);
    pthread_detach(thread);
    if (read(guest->done[0], &c, 1) != 1) abort();
    return guest;
}

static long end(struct guest *guest)
{
    char c;
    if (write(guest->wait[1], "g", 1) != 1 || read(guest->done[0], &c, 1) != 1) abort();
    for (int n = 0; n < 2; n++) close(guest->wait[n]), close(guest->done[n]);
    return guest->answer;
}

int main(void)
{
    char c;
    alarm(300);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'a') printf("%ld %ld %ld\n", end(begin(10, GUESTS - 1)), end(begin(200, GUESTS - 1)), scaled(1));
        if (c == 'h') begin(20, held), printf("%d\n", ++held);
        if (c == 't') printf("%d\n", guests[held - 1].tid);
        if (c == 'r') printf("%ld\n", end(&guests[gone++]));
        fflush(stdout);
    }
    return 0;
}
