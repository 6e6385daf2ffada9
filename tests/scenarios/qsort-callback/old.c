#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void answer(char *line, size_t size)
{
    int values[] = { 4, 1, 9, 3 };
    qsort(values, 4, sizeof values[0], compare);
    snprintf(line, size, "sorted %d %d %d %d", values[0], values[1], values[2], values[3]);
}
