#include "harness.h"
#include <cstdio>
#include <string>
#include <vector>

KEPT const std::vector<std::string> &parts()
{
    static const std::vector<std::string> kept = { "a", "b", "c" };
    return kept;
}

KEPT std::string join(const std::vector<std::string> &items)
{
    std::string all;
    for (const std::string &item : items) {
        if (!all.empty())
            all += '/';
        all += item;
    }
    return all + "!";
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "joined %s", join(parts()).c_str());
}
