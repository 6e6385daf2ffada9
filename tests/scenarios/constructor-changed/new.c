#include "harness.h"
#include <stdio.h>

static volatile int mode;

__attribute__((constructor)) static void choose_mode(void)
{
    mode = 1 | 2;
}

KEPT int current(void)
{
    return mode;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "mode %d", current());
}
