#include "harness.h"
#include <stdio.h>

int factor = 10;

int alpha(int value);
int beta(int value);
int gamma_of(int value);
int delta(int value);

void answer(char *line, size_t size)
{
    snprintf(line, size, "order %d %d %d %d", alpha(1), beta(2), gamma_of(3), delta(4));
}
