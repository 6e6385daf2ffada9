/* A small server for rehearsals: a master, one worker that answers `answer()` on a port and calls `tick()` meanwhile. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef FROM_LIBRARY
int answer(void);
#else
__attribute__((noipa)) int answer(void) { return 1; }
#endif
__attribute__((noipa)) int tick(void) { return 1; }
static volatile int sink;

static void serve(int listener) {
    for (;;) {
        struct pollfd ready = {listener, POLLIN, 0};
        sink = tick();
        if (poll(&ready, 1, 20) <= 0) continue;
        int client = accept(listener, NULL, NULL);
        char line[32];
        int size = snprintf(line, sizeof line, "%d\n", answer());
        if (write(client, line, size) != size) exit(3);
        close(client);
    }
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) return 4;
    if (argc > 2 && !strcmp(argv[2], "fragile") && getenv("FRAGILE") && !access("started", F_OK)) return 5;
    FILE *started = fopen("started", "w");
    fprintf(started, "%d\n", getpid());
    fclose(started);
    if (argc > 2 && !strcmp(argv[2], "titled")) memset(argv[1], 'x', strlen(argv[1]) + 1 + strlen(argv[2]));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(listener);
    }
    for (;;) wait(NULL), poll(NULL, 0, 20);
}
