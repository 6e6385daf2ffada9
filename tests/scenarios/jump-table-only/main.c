#include "harness.h"
#include <stdio.h>

int dispatch(int operation, int value);

void answer(char *line, size_t size)
{
    snprintf(line, size, "switch %d %d %d %d %d", dispatch(0, 1), dispatch(1, 2), dispatch(2, 3), dispatch(3, 4),
             dispatch(4, 5));
}
