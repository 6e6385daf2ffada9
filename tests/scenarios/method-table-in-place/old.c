#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

struct methods {
    int (*combine)(int, int);
    int (*other)(int, int);
};

struct object {
    const struct methods *methods;
};

static int add(int a, int b)
{
    return a + b;
}

static int multiply(int a, int b)
{
    return a * b;
}

static const struct methods arithmetic = { add, multiply };
static struct object *object;

KEPT int both(int a)
{
    int (*volatile functions[])(int, int) = { add, multiply };
    return functions[0](a, a) + functions[1](a, a);
}

void setup(void)
{
    object = malloc(sizeof *object);
    object->methods = &arithmetic;
}

void answer(char *line, size_t size)
{
    int sum = both(0);
    snprintf(line, size, "methods %d %d", object->methods->combine(2, 3) + sum, object->methods->other(2, 3));
}
