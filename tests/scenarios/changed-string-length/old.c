#include "harness.h"
#include <stdio.h>

KEPT const char *address(void)
{
    return "10.0.0.1";
}

KEPT const char *port(void)
{
    return "port 80";
}

KEPT const char *end(void)
{
    return "end";
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "bind %s %s %s", address(), port(), end());
}
