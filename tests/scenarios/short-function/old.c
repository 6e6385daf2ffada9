#include "harness.h"
#include <stdio.h>

KEPT int enabled(void)
{
    return 1;
}

KEPT int flags(void)
{
    return 0;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "short %d %d", enabled(), flags());
}
