#include "harness.h"
#include <stdio.h>

void answer(char *line, size_t size)
{
    snprintf(line, size, "same %d", 4);
}
