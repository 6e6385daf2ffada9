static int one = 1;

int basic(int value)
{
    return value + one;
}

int advanced(int value)
{
    return basic(value) * 2 - one;
}
