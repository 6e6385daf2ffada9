#include "harness.h"
#include <stdio.h>

int before(void);
int flags(void);
int after(void);

void answer(char *line, size_t size)
{
    snprintf(line, size, "short %d %d %d", before(), flags(), after());
}
