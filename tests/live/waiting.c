/* Three threads wait for a fifth of a second again and again, in calls that a stop makes begin anew; one is for ever in a function
   that is to change. c: how often each wait came to its end. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int stays(void) { for (;;) pause(); }

static atomic_int ended[3];
static void *in_epoll_wait(void *unused) {
    int fd = epoll_create1(0);
    struct epoll_event event;
    for (;;) ended[0] += epoll_wait(fd, &event, 1, 200) == 0;
    return unused;
}
static void *in_sigtimedwait(void *unused) {
    struct timespec time = {0, 200000000};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    for (;;) ended[1] += sigtimedwait(&set, NULL, &time) == -1;
    return unused;
}
static void *in_recv(void *unused) {
    struct timeval time = {0, 200000};
    int pair[2];
    char c;
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    for (;;) ended[2] += recv(pair[0], &c, 1, 0) == -1;
    return unused;
}
static void *in_stays(void *unused) {
    stays();
    return unused;
}

int main(void) {
    void *(*ways[])(void *) = {in_epoll_wait, in_sigtimedwait, in_recv, in_stays};
    pthread_t made;
    char c;
    for (int i = 0; i < 4; i++) pthread_create(&made, NULL, ways[i], NULL);
    usleep(100000);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        printf("%d %d %d\n", ended[0], ended[1], ended[2]);
        fflush(stdout);
    }
    return 0;
}
