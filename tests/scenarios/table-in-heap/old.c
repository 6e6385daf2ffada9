#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

static const int prices[] = { 10, 20, 30 };

struct shop {
    const int *prices;
};

static struct shop *shop;

void setup(void)
{
    shop = malloc(sizeof *shop);
    shop->prices = prices;
}

KEPT int kept_price(int index)
{
    return shop->prices[index];
}

KEPT int price(int index)
{
    return prices[index];
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "prices %d %d %d kept %d", price(0), price(1), price(2), kept_price(1));
}
