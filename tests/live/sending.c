/* Opens the FIFO of its argument. w: writes 256 KiB to it at once, and says how many bytes that took. a: first(). */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int first(void) { return 1; }

int main(int argc, char **argv) {
    static char content[262144];
    int fd = argc > 1 ? open(argv[1], O_WRONLY) : -1;
    char c;
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        if (c == 'w') printf("%zd\n", write(fd, content, sizeof content));
        if (c == 'a') printf("%d\n", first());
        fflush(stdout);
    }
    return 0;
}
