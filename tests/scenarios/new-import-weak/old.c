#include "harness.h"
#include <stdio.h>

static const char *texts[] = { "none", "absent", "present" };

KEPT const char *plugin(void)
{
    return texts[0];
}

KEPT const char *unchanged(int index)
{
    return texts[index];
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "plugin %s", unchanged(0) ? plugin() : "");
}
