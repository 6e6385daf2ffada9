#include "harness.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct operations {
    int (*add)(int, int);
    int (*multiply)(int, int);
};

static int add(int a, int b)
{
    return a + b;
}

static int multiply(int a, int b)
{
    return a * b;
}

static const struct operations defaults = { multiply, multiply };
static struct operations *live;

KEPT int also_add(int a)
{
    return add(a, a) + multiply(a, a);
}

void setup(void)
{
    live = malloc(sizeof *live);
    memcpy(live, &defaults, sizeof defaults);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "operation %d %d", live->add(2, 3), also_add(1));
}
