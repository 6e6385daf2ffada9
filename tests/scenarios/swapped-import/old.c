#define _GNU_SOURCE
#include "harness.h"
#include <stdio.h>
#include <sys/stat.h>

KEPT int is_link(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return -1;
    return S_ISLNK(status.st_mode);
}

KEPT int itself_link(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 && S_ISLNK(status.st_mode);
}

KEPT int leads_to_link(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISLNK(status.st_mode);
}

void answer(char *line, size_t size)
{
    const char *path = "/proc/self/exe";
    snprintf(line, size, "link %d %d %d", is_link(path), itself_link(path), leads_to_link(path));
}
