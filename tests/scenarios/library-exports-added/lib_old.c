static int one = 1;

int basic(int value)
{
    return value + one;
}
