#include "harness.h"
#include <stdio.h>

int compute(int value);
const char *version(void);

void answer(char *line, size_t size)
{
    snprintf(line, size, "library %d version %s", compute(3), version());
}
