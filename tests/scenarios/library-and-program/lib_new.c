static int one = 1;

int library_version(int *out)
{
    *out = one + 1;
    return 0;
}

int unchanged(void)
{
    return one;
}
