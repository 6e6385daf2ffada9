#include "harness.h"
#include <stdio.h>

static const char *texts[] = { "none", "absent", "present" };

extern int optional_plugin(void) __attribute__((weak));

KEPT const char *plugin(void)
{
    return optional_plugin ? texts[optional_plugin()] : texts[1];
}

KEPT const char *unchanged(int index)
{
    return texts[index];
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "plugin %s", unchanged(0) ? plugin() : "");
}
