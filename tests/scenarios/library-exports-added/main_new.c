#include "harness.h"
#include <stdio.h>

int basic(int value);
int advanced(int value);

KEPT int use(int value)
{
    return advanced(value);
}

KEPT int unchanged(int value)
{
    return basic(value) - value;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "export %d", use(4) + unchanged(1) - 1);
}
