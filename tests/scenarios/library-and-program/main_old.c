#include "harness.h"
#include <stdio.h>

int library_version(int *out);
int one = 1;

KEPT int program_version(void)
{
    return one;
}

void answer(char *line, size_t size)
{
    int first;
    library_version(&first);
    snprintf(line, size, "both %d %d", first, program_version());
}
