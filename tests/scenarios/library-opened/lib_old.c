static int factor = 4;

int compute(int value)
{
    return value * factor;
}

int unchanged(int value)
{
    return value - factor;
}
