#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

int (**hook)(void);
static volatile int one = 1;

KEPT int first_hook(void)
{
    return one;
}

KEPT void prepare(void)
{
    if (!hook) {
        hook = malloc(sizeof *hook);
        HIDE(hook);
        *hook = first_hook;
    }
}

void answer(char *line, size_t size)
{
    prepare();
    snprintf(line, size, "hook %d", (*hook)());
}
