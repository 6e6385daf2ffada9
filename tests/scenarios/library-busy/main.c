#include "harness.h"
#include <stdio.h>

int visit(int (*callback)(int), int value);

static int plain(int value)
{
    return value;
}

static int waits(int value)
{
    harness_wait();
    return value;
}

void hold(void)
{
    visit(waits, 1);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "library %d", visit(plain, 1));
}
