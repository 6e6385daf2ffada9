/* A small web server of one process: each request gets what `answer` says. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef STATUS
#define STATUS "200 OK"
#define BODY "as shipped"
#endif

__attribute__((noipa)) static int answer(char *text, size_t room, unsigned number) {
    return snprintf(text, room, "HTTP/1.0 %s\r\nContent-Type: text/plain\r\n\r\n%s, %u\n", STATUS, BODY, number);
}

__attribute__((noipa)) static void serve(int client, unsigned number) {
    char text[512], request[1024];
    if (read(client, request, sizeof request) > 0) {
        int size = answer(text, sizeof text, number);
        if (write(client, text, size) != size) exit(3);
    }
    shutdown(client, SHUT_WR);
    while (read(client, request, sizeof request) > 0) continue;
    close(client);
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 80)};
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) return 4;
    for (unsigned number = 1;; number++) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0) serve(client, number);
    }
}
