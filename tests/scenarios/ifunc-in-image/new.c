#include "harness.h"
#include <stdio.h>

static int sum_generic(const int *values, int count)
{
    int sum = 0;
    while (count-- > 0)
        sum += values[count];
    return sum;
}

static int sum_fast(const int *values, int count)
{
    int sum = 0;
    for (int i = 0; i < count; i++)
        sum += values[i];
    return sum + 1;
}

static int (*resolve_sum(void))(const int *, int)
{
    return sizeof(void *) == 8 ? sum_fast : sum_generic;
}

int sum(const int *values, int count) __attribute__((ifunc("resolve_sum")));

KEPT int via(void)
{
    static const int one[] = { 1 };
    int (*volatile function)(const int *, int) = sum_generic;
    return function(one, 1);
}

void answer(char *line, size_t size)
{
    static const int values[] = { 1, 2, 3, 4 };
    snprintf(line, size, "sum %d via %d", sum(values, 4), via());
}
