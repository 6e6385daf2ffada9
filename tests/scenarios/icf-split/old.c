#include "harness.h"
#include <stdio.h>

static int base = 5;

static __attribute__((noinline)) int check_a(int value)
{
    return value * base + 1;
}

static __attribute__((noinline)) int check_b(int value)
{
    return value * base + 1;
}

KEPT int ask_a(int value)
{
    return check_a(value) + 0 * value;
}

KEPT int ask_b(int value)
{
    HIDE(value);
    return check_b(value);
}

KEPT int ask_twice(int value)
{
    return check_a(value) + check_a(value + 1);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "parts %d %d %d", ask_a(5), ask_b(5), ask_twice(5));
}
