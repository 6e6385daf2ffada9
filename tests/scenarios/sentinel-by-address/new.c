#include "harness.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char EMPTY[] = "";
static const char *people[] = { "bob", "" };

KEPT const char *name_of(int index)
{
    if (people[index][0] == 0)
        return EMPTY;
    return people[index][3] ? strdup(people[index]) : EMPTY;
}

KEPT int release_name(const char *name)
{
    if (name == EMPTY)
        return 0;
    free((void *)name);
    return 1;
}

void answer(char *line, size_t size)
{
    const char *first = name_of(0), *second = name_of(1);
    char text[2][32];
    strcpy(text[0], first);
    strcpy(text[1], second);
    int freed[2] = { release_name(first), release_name(second) };
    snprintf(line, size, "name '%s' freed %d, name '%s' freed %d", text[0], freed[0], text[1], freed[1]);
}
