static volatile int base = 3;

int visit(int (*callback)(int), int value)
{
    int result = callback(value) + base;
    return result + 1;
}

int unchanged(void)
{
    return base;
}
