#include "harness.h"
#include <stdio.h>

static int base = 40;
static int extra[] = { 1, 2, 3 };
static int *const volatile extras = extra;

KEPT int limit(void)
{
    int sum = base;
    for (int i = 0; i < 3; i++)
        sum += extras[i];
    return sum;
}

KEPT int unchanged(void)
{
    return base;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "limit %d", limit() + unchanged() - 40);
}
