#include "harness.h"
#include <stdio.h>

KEPT int tickets(int sell)
{
    static int sold;
    sold += sell;
    return sold + 200;
}

void setup(void)
{
    for (int i = 0; i < 3; i++)
        tickets(1);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "tickets %d", tickets(0));
}
