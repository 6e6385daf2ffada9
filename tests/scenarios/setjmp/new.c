#include "harness.h"
#include <setjmp.h>
#include <stdio.h>

static volatile int code = 3;

KEPT void leave(jmp_buf *back)
{
    longjmp(*back, code + 1);
}

KEPT int attempt(void)
{
    jmp_buf back;
    int got = setjmp(back);
    if (got)
        return got;
    leave(&back);
    return -1;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "jumped %d", attempt());
}
