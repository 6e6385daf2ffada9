static int factor = 4;

int compute(int value)
{
    return value * factor + 1;
}

int unchanged(int value)
{
    return value - factor;
}
