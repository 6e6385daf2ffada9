#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

struct plan {
    int length;
    const void *steps[8];
};

static struct plan *prepared;

/* Called without a plan, fills `out` with the labels whose numbers are the digits of `value`; else runs the plan. */
KEPT int run(const struct plan *plan, struct plan *out, int value)
{
    static const void *const labels[] = { &&increment, &&twice, &&square, &&stop };
    const void *const *step;
    if (!plan) {
        for (int i = 0; i < out->length; i++)
            out->steps[i] = labels[value >> (4 * i) & 15];
        return 0;
    }
    step = plan->steps;
    goto **step++;
increment:
    value += 1;
    goto **step++;
twice:
    value *= 2;
    goto **step++;
square:
    value *= value;
    goto **step++;
stop:
    return (value & 1) + value + 2;
}

void setup(void)
{
    prepared = calloc(1, sizeof *prepared);
    prepared->length = 4;
    run(NULL, prepared, 0x3102);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "ran %d", run(prepared, NULL, 4));
}
