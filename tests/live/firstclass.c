/* Old and new build of one program (VERSION 1 and 2), to be run in the directory it is given: `middle` and its local data differ. Commands on stdin:
 * w  say so, and wait inside leaf, below middle, for one more byte    c  abort there    s  compute in middle for long
 * anything else: answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noclone))
volatile int base = 5;

KEPT int leaf(int how, char *room)
{
    char c;
    if (how == 'w' && (write(1, "inside\n", 7) != 7 || read(0, &c, 1) != 1))
        exit(1);
    if (how == 'c')
        abort();
    return room[0] + base;
}

KEPT int middle(int how)
{
    char room[300];
    volatile long sum = 0;
    memset(room, how == 'o' ? 1 : VERSION, sizeof room);
    if (how == 's')
        for (volatile long i = 0; i < 30000000000; i++)
            sum += VERSION;
    return leaf(how, room) + room[base] * VERSION + (sum == 1);
}

KEPT int outer(int how)
{
    return middle(how) + base;
}

int main(int count, char **arguments)
{
    char c;
    if (count > 1 && chdir(arguments[1]) != 0)
        return 1;
    puts("ready");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {
        printf("%d\n", outer(c));
        fflush(stdout);
    }
    return 0;
}
