#include "harness.h"
#include <stdio.h>

static int timeout = 30;
static int retries = 4;

KEPT int current(void)
{
    return timeout;
}

KEPT void configure(int value)
{
    if (value > 0)
        timeout = value, retries = 4;
}

KEPT int other(void)
{
    return retries * 10;
}

void answer(char *line, size_t size)
{
    configure(0);
    snprintf(line, size, "timeout %d %d", current(), other());
}
