#include "harness.h"
#include <cstdio>

namespace {

struct Animal {
    virtual ~Animal() {}
    virtual const char *name() const
    {
        return "animal";
    }
};

struct Cat : Animal {
    const char *name() const override
    {
        return "cat";
    }
};

struct Dog : Animal {
    const char *name() const override
    {
        return "dog";
    }
};

Animal *pet;

} // namespace

KEPT Animal *make(int kind)
{
    if (kind == 1)
        return new Dog;
    return new Cat;
}

KEPT const char *describe(const Animal *animal)
{
    Animal *other = make(dynamic_cast<const Cat *>(animal) ? 1 : 0);
    const char *name = other->name();
    delete other;
    return name;
}

KEPT const char *plain(const Animal *animal)
{
    return animal->name();
}

KEPT bool is_cat(const Animal *animal)
{
    return dynamic_cast<const Cat *>(animal) != nullptr;
}

void setup(void)
{
    pet = make(0);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "names %s %s", is_cat(pet) ? describe(pet) : "?", plain(pet));
}
