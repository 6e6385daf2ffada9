#include "harness.h"
#include <stdio.h>

static const int numbers[] = { 10, 20, 30, 40 };
static const int following[] = { 70, 80 };

KEPT const int *find(int value)
{
    const int *p = numbers;
    while (p != numbers + 4 && *p != value)
        p++;
    return p;
}

KEPT int is_found(const int *p)
{
    return p != numbers + 4;
}

KEPT int number(int index)
{
    return numbers[index];
}

KEPT int follows(int index)
{
    return following[index];
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "found %d %d %d next %d", is_found(find(number(1))), is_found(find(99)), is_found(find(15)),
             follows(0));
}
