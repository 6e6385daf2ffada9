#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

struct account {
    int number;
    int owner;
    long balance;
    long history[4];
    struct account *next;
};

static struct account *accounts;

KEPT struct account *open_account(int number)
{
    struct account *account = calloc(1, sizeof *account);
    account->number = number;
    account->next = accounts;
    accounts = account;
    return account;
}

KEPT void deposit(struct account *account, long amount)
{
    account->history[account->number & 3] = amount;
    account->balance += amount;
}

KEPT long balance_of(const struct account *account)
{
    return account->balance;
}

KEPT long last_deposit(const struct account *account)
{
    return account->history[account->number & 3];
}

KEPT int count_accounts(void)
{
    int count = 0;
    for (const struct account *account = accounts; account; account = account->next)
        count += account->balance > 0;
    return count;
}

KEPT struct account *find(int number)
{
    struct account *account = accounts;
    while (account && account->number != number)
        account = account->next;
    return account;
}

void setup(void)
{
    deposit(open_account(7), 100);
    deposit(find(7), 200);
    deposit(open_account(8), 50);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "account %d %ld %d", find(7)->number, balance_of(find(7)), count_accounts());
    if (last_deposit(find(7)) != 200)
        snprintf(line, size, "account broken");
}
