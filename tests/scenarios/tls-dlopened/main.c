#include "harness.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static int (*enter)(void);
static int (*leave)(void);

void setup(void)
{
    void *library = dlopen(getenv("SUBJECT"), RTLD_NOW);
    enter = (int (*)(void))dlsym(library, "enter");
    leave = (int (*)(void))dlsym(library, "leave");
}

void answer(char *line, size_t size)
{
    int result = enter();
    snprintf(line, size, "thread %d %d", result, leave());
}
