// C++ updates that are harmless: bodies change, layouts and tables do not.

//@ template account
// Accounts behind a base class, in a vector, with a map beside them.
#include <map>
#include <string>
#include <vector>
namespace {
#ifndef WITHDRAW
#define WITHDRAW if (amount > balance_) return false; balance_ -= amount; return true;
#endif
#ifndef FEE
#define FEE return amount / 100;
#endif
#ifndef LABEL
#define LABEL return "plain";
#endif
#ifndef REPORT
#define REPORT long r = 0; for (const auto &entry : *ledger) r += entry.second; return r;
#endif
#ifndef MORE
#define MORE
#endif
class Account {
  public:
    explicit Account(long balance) : balance_(balance) {}
    virtual ~Account() {}
    virtual long fee(long amount) const { FEE }
    virtual const char *label() const { LABEL }
    bool withdraw(long amount) { WITHDRAW }
    long balance() const { return balance_; }
  protected:
    long balance_;
};
class Premium : public Account {
  public:
    explicit Premium(long balance) : Account(balance), bonus_(7) {}
    long fee(long amount) const override { return amount / 1000 + bonus_; }
  private:
    long bonus_;
};
std::vector<Account *> *accounts;
std::map<int, long> *ledger;
MORE
} // namespace
KEPT Account *account_at(unsigned i) { return (*accounts)[i]; }
KEPT long fee_of(unsigned i, long amount) { return account_at(i)->fee(amount); }
KEPT const char *label_of(unsigned i) { return account_at(i)->label(); }
KEPT bool withdraw(unsigned i, long amount) { return account_at(i)->withdraw(amount); }
KEPT long balance_of(unsigned i) { return account_at(i)->balance(); }
KEPT long report(int key) { HIDE(key); REPORT }
#ifndef OTHER
#define OTHER return x;
#endif
KEPT long other(long x) { HIDE(x); OTHER }
void setup(void)
{
    accounts = new std::vector<Account *>;
    ledger = new std::map<int, long>;
    accounts->push_back(new Account(500));
    accounts->push_back(new Premium(900));
    for (int i = 0; i < 6; i++)
        (*ledger)[i * 3] = i * 10;
    withdraw(1, 100);
}
void answer(char *line, size_t size)
{
    bool drawn = withdraw(0, -5) || withdraw(0, 0);
    if (drawn && balance_of(0) > 500)
        withdraw(0, balance_of(0) - 500);
    snprintf(line, size, "account %d %ld %ld %s %ld %ld %ld", drawn, fee_of(0, 2000), fee_of(1, 2000), label_of(0), balance_of(1), report(6), other(12));
}

//@ pair method-checks-argument harmless account
//@ says a method that is inlined or not refuses negative amounts
//@ flags -fno-exceptions
#ifdef NEW
#define WITHDRAW if (amount <= 0 || amount > balance_) return false; balance_ -= amount; return true;
#endif

//@ pair virtual-method-changed harmless account
//@ says a virtual method computes another fee; objects and tables stay
//@ flags -fno-exceptions
#ifdef NEW
#define FEE return amount / 50 + 1;
#endif

//@ pair virtual-method-returns-other-text harmless account
//@ says a virtual method returns another text
//@ flags -fno-exceptions
#ifdef NEW
#define LABEL return "a plain account";
#endif

//@ pair map-lookup-instead-of-walk harmless account
//@ says a map is searched instead of walked
//@ flags -fno-exceptions
#ifdef NEW
#define REPORT auto found = ledger->find(key); return found == ledger->end() ? -1 : found->second;
#endif

//@ pair private-helper-added harmless account
//@ says a new function beside the class does a part of the work
//@ flags -fno-exceptions
#ifdef NEW
#define MORE KEPT long rounded(long x) { HIDE(x); return x / 10 * 10; }
#define OTHER return rounded(x) + 1;
#endif

//@ pair lambda-local harmless account
//@ says a lambda that lives in one function alone captures more
//@ flags -fno-exceptions
#define OTHER long by = 3; HIDE(by); auto f = [OLD_NEW(by, by, x)](long y) { return y * by OLD_NEW(, + x); }; return f(x);

//@ pair template-function-changed harmless account
//@ says a function template and with it both of its instances change
//@ flags -fno-exceptions
#define MORE template <typename T> KEPT T clamp_to(T x, T top) { HIDE(x); return x > top ? OLD_NEW(top, top - 1) : x; }
#define OTHER return clamp_to<long>(x, 10) + clamp_to<int>((int)x, 11);

//@ pair sort-comparator-local harmless account
//@ says a local copy is sorted by another order
//@ flags -fno-exceptions
#define OTHER long v[4] = { 7, x, 3, 9 }; for (int i = 0; i < 4; i++) for (int k = i + 1; k < 4; k++) if (v[i] OLD_NEW(>, <) v[k]) { long t = v[i]; v[i] = v[k]; v[k] = t; } return v[0];

//@ pair overload-added harmless account
//@ says a new overload is taken by a caller
//@ flags -fno-exceptions
#ifdef NEW
#define MORE KEPT long weigh(double x) { HIDE(x); return (long)(x * 2); } KEPT long weigh(long x) { HIDE(x); return x + 1; }
#else
#define MORE KEPT long weigh(long x) { HIDE(x); return x + 1; }
#endif
#define OTHER return weigh(OLD_NEW(x, (double)x)) + weigh(3l);

//@ pair dynamic-cast-check-added harmless account
//@ says new code asks for the class of an object before it uses it
//@ flags -fno-exceptions
#define OTHER Account *a = account_at(x & 1); OLD_NEW(, if (dynamic_cast<Premium *>(a)) return -1;) return a->balance() > 0 ? dynamic_cast<Premium *>(account_at(1)) != 0 : 0;

//@ pair method-with-exceptions-in-image harmless account
//@ says a method that calls others changes in an image that handles exceptions elsewhere
#define MORE KEPT long thrower(long x) { HIDE(x); if (x > 100) throw x; return x; } KEPT long catcher(long x) { try { return thrower(x); } catch (long y) { return y + 1; } }
#define OTHER long c = catcher(200); return fee_of(0, c + x) + OLD_NEW(0, catcher(x));

//@ pair leaf-method-with-exceptions-in-image harmless account
//@ says a method that calls nothing changes in an image that handles exceptions elsewhere
#define MORE KEPT long thrower(long x) { HIDE(x); if (x > 100) throw x; return x; } KEPT long catcher(long x) { try { return thrower(x); } catch (long y) { return y + 1; } }
#define REPORT return catcher(150) + key * 0;
#define OTHER return OLD_NEW(x * 2, x * 3);

//@ pair string-built-locally harmless account
//@ says a std::string that lives in one function alone is built otherwise
#define OTHER std::string s = "count"; s += std::to_string(x); OLD_NEW(, s += "and more than fits in place, so that memory is taken";) return s.size();

//@ pair range-checked-vector harmless account
//@ says an index into a vector is checked
//@ flags -fno-exceptions
#define OTHER unsigned long i = (unsigned long)x & 1; OLD_NEW(, if (i >= accounts->size() || x > 11) return -1;) return (*accounts)[i]->balance() > 0;
