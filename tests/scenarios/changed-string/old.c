#include "harness.h"
#include <stdio.h>

KEPT const char *greeting(void)
{
    return "hello there";
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "says %s", greeting());
}
