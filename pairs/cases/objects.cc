// C++: classes with members, virtual functions and templates, alive on the heap.

//@ template shapes
// Shapes behind a base class, made before the switch.
namespace {
#ifndef BASE_MEMBERS
#define BASE_MEMBERS
#endif
#ifndef MEMBERS
#define MEMBERS double width_, height_;
#endif
#ifndef BASE_VIRTUALS
#define BASE_VIRTUALS virtual double area() const = 0; virtual int corners() const = 0; virtual const char *name() const { return "shape"; }
#endif
#ifndef VIRTUALS
#define VIRTUALS double area() const override { return width_ * height_; } int corners() const override { return 4; }
#endif
#ifndef BASES
#define BASES public Shape
#endif
#ifndef INIT
#define INIT
#endif
class Shape {
  public:
    virtual ~Shape() = default;
    BASE_VIRTUALS
    int id() const { return id_; }
  protected:
    BASE_MEMBERS
    int id_ = 3;
};
#ifdef MORE
MORE
#endif
class Box : BASES {
  public:
    Box(double w, double h) : width_(w), height_(h) { INIT }
    VIRTUALS
    double width() const { return width_; }
    void grow(double by) { width_ += by; height_ += by; }
  private:
    MEMBERS
};
class Disc : public Shape {
  public:
    double area() const override { return 7; }
    int corners() const override { return 0; }
    const char *name() const override { return "disc"; }
};
Box *box;
Shape *shape, *disc;
} // namespace
KEPT double area_of(const Shape *s) { return s->area(); }
KEPT int corners_of(const Shape *s) { return s->corners(); }
KEPT const char *name_of(const Shape *s) { return s->name(); }
KEPT int id_of(const Shape *s) { return s->id(); }
KEPT double width_of(const Box *b) { return b->width(); }
KEPT void grow(Box *b, double by) { b->grow(by); }
void setup(void)
{
    box = new Box(3, 4);
    shape = box;
    disc = new Disc;
    grow(box, 1);
}
void answer(char *line, size_t size)
{
    snprintf(line, size, "shape %.1f %.1f %s %d %s %d %.1f", area_of(shape), area_of(disc), name_of(disc), corners_of(shape), name_of(shape), id_of(shape), width_of(box));
}

//@ pair class-member-added dangerous shapes
//@ says a member in front of the others moves them in every object made before
#ifdef NEW
#define MEMBERS double depth_ = 2; double width_, height_;
#endif

//@ pair class-member-at-end dangerous shapes
//@ says a member at the end is used by a virtual function: old objects have none
#ifdef NEW
#define MEMBERS double width_, height_, factor_ = 2;
#define VIRTUALS double area() const override { return width_ * height_ * factor_; } int corners() const override { return 4; }
#endif

//@ pair class-members-swapped dangerous shapes
//@ says two members change places
#define MEMBERS OLD_NEW(double width_ = 1; double height_;, double height_; double width_ = 1;)
#define VIRTUALS double area() const override { return width_ * 10 + height_; } int corners() const override { return 4; }
#define INIT height_ += 5;

//@ pair base-class-member-added dangerous shapes
//@ says the base class gets a member: all of the derived class moves
#ifdef NEW
#define BASE_MEMBERS long serial_ = 5;
#endif

//@ pair virtual-added-at-end dangerous shapes
//@ says a virtual function behind the last one is called on old objects, whose table is too short
#ifdef NEW
#define BASE_VIRTUALS virtual double area() const = 0; virtual int corners() const = 0; virtual const char *name() const { return "shape"; } virtual double edge() const { return 7; }
#define VIRTUALS double area() const override { return width_ * height_ + edge(); } int corners() const override { return 4; } double edge() const override { return 8; }
#endif

//@ pair virtual-inserted dangerous shapes
//@ says a virtual function in the middle moves the slots behind it
#ifdef NEW
#define BASE_VIRTUALS virtual double area() const = 0; virtual int sides() const { return 9; } virtual int corners() const = 0; virtual const char *name() const { return "shape"; }
#endif

//@ pair virtuals-reordered dangerous shapes
//@ says two virtual functions change slots
#define BASE_VIRTUALS virtual double area() const = 0; OLD_NEW(virtual int corners() const = 0; virtual int sides() const { return 8; }, virtual int sides() const { return 8; } virtual int corners() const = 0;) virtual const char *name() const { return "shape"; }

//@ pair virtual-removed dangerous shapes
//@ says a virtual function in front is gone: slots move down
#define BASE_VIRTUALS OLD_NEW(virtual int unused() const { return 1; }, ) virtual double area() const = 0; virtual int corners() const = 0; virtual const char *name() const { return "shape"; }

//@ pair second-base-added dangerous shapes
//@ says the class gets a second base class before its members
#define MORE class Tagged { public: long tag_ = 6; long tag() const { return tag_; } };
#ifdef NEW
#define BASES public Shape, public Tagged
#endif

//@ pair override-added dangerous shapes
//@ says a class overrides one more virtual function that grew a member with it
#ifdef NEW
#define MEMBERS double width_, height_; const char *label_ = "box";
#define VIRTUALS double area() const override { return width_ * height_; } int corners() const override { return 4; } const char *name() const override { return label_; }
#endif

//@ pair destructor-becomes-virtual dangerous
//@ says a class without virtual functions gets one: objects start with a pointer that old ones have not
namespace {
class Counter {
  public:
    OLD_NEW(, virtual) ~Counter() {}
    long value() const { return value_; }
    void add(long n) { value_ += n; steps_++; }
    long steps() const { return steps_; }
  private:
    long value_ = 4, steps_ = 0;
};
Counter *counter;
}
KEPT long counter_value(const Counter *c) { return c->value(); }
KEPT long counter_steps(const Counter *c) { return c->steps(); }
KEPT void counter_add(Counter *c, long n) { c->add(n); }
void setup(void)
{
    counter = new Counter;
    counter_add(counter, 3);
}
void answer(char *line, size_t size) { snprintf(line, size, "counter %ld %ld", counter_value(counter), counter_steps(counter)); }

//@ pair vector-of-longs dangerous
//@ says a vector of ints becomes one of longs: its elements are read two at a time
#include <vector>
static std::vector<OLD_NEW(int, long)> *numbers;
KEPT void number_add(int n) { numbers->push_back(n); }
KEPT long number_at(int i) { return (*numbers)[i]; }
KEPT long number_sum(void)
{
    long sum = 0;
    for (auto n : *numbers)
        sum += n;
    return sum;
}
KEPT int number_any(void) { return !numbers->empty(); }
void setup(void)
{
    numbers = new std::vector<OLD_NEW(int, long)>;
    for (int i = 1; i < 9; i++)
        number_add(i);
}
void answer(char *line, size_t size) { snprintf(line, size, "numbers %ld %ld %d", number_at(2), number_sum(), number_any()); }

//@ pair vector-of-larger-structs dangerous
//@ says the elements of a vector grow: old elements lie closer together
#include <vector>
struct Entry { int key; int value; OLD_NEW(, int weight = 2;) };
static std::vector<Entry> *entries;
KEPT void entry_add(int key, int value)
{
    Entry e;
    e.key = key;
    e.value = value;
    entries->push_back(e);
}
KEPT int entry_value(int key)
{
    for (const Entry &e : *entries)
        if (e.key == key)
            return e.value;
    return -1;
}
KEPT int entry_count(void) { return entries->size(); }
void setup(void)
{
    entries = new std::vector<Entry>;
    for (int i = 1; i < 10; i++)
        entry_add(i * 11, i);
}
void answer(char *line, size_t size) { snprintf(line, size, "entries %d %d %d", entry_value(55), entry_value(99), entry_count()); }

//@ pair string-member-becomes-pointer dangerous
//@ says a std::string member becomes a pointer to characters: the members behind it move
#include <string>
struct Person { int id; OLD_NEW(std::string name;, const char *name;) int age; };
static Person *person;
KEPT Person *person_make(int id, const char *name, int age)
{
    Person *p = new Person;
    p->id = id;
    p->name = name;
    p->age = age;
    return p;
}
KEPT int person_age(const Person *p) { return p->age; }
KEPT int person_id(const Person *p) { return p->id; }
KEPT const char *person_name(const Person *p) { return OLD_NEW(p->name.c_str(), p->name); }
void setup(void) { person = person_make(7, "somebody", 44); }
void answer(char *line, size_t size) { snprintf(line, size, "person %d %s %d", person_id(person), person_name(person), person_age(person)); }

//@ pair map-value-grown dangerous
//@ says the values of a map grow: nodes made before are too short
#include <map>
struct Value { long amount; OLD_NEW(, long limit = 50;) };
static std::map<int, Value> *values;
KEPT void value_set(int key, long amount) { (*values)[key].amount = amount; }
KEPT long value_get(int key)
{
    auto found = values->find(key);
    return found == values->end() ? -1 : found->second.amount OLD_NEW(, + found->second.limit);
}
KEPT int value_count(void) { return values->size(); }
void setup(void)
{
    values = new std::map<int, Value>;
    for (int i = 0; i < 5; i++)
        value_set(i, i * 100);
}
void answer(char *line, size_t size) { snprintf(line, size, "values %ld %ld %d", value_get(3), value_get(9), value_count()); }

//@ pair enum-class-widened dangerous
//@ says an enum class gets a larger underlying type: the member behind it moves
enum class Mode : OLD_NEW(unsigned char, unsigned) { off = 1, on = 2 };
struct Device { Mode mode; unsigned char level; unsigned char rest[6]; };
static Device *device;
KEPT void device_set(Device *d, Mode mode, int level)
{
    d->mode = mode;
    d->level = level;
}
KEPT int device_on(const Device *d) { return d->mode == Mode::on; }
KEPT int device_level(const Device *d) { return d->level; }
void setup(void)
{
    device = (Device *)calloc(1, 64);
    device_set(device, Mode::on, 200);
}
void answer(char *line, size_t size) { snprintf(line, size, "device %d %d", device_on(device), device_level(device)); }

//@ pair closure-captures-more dangerous
//@ says a lambda kept in a std::function captures one value more: old closures have none
#include <functional>
static std::function<long(long)> *action;
static long bonus = 5;
KEPT void action_make(long factor)
{
    long extra = bonus;
    HIDE(extra);
#ifdef NEW
    *action = [factor, extra, third = factor + extra](long x) { return x * factor + extra + third * 0; };
#else
    *action = [factor](long x) { return x * factor; };
#endif
}
KEPT long action_run(long x) { return (*action)(x); }
KEPT void bonus_set(long b) { bonus = b; }
KEPT long bonus_get(void) { return bonus; }
void setup(void)
{
    action = new std::function<long(long)>;
    bonus_set(6);
    action_make(7);
}
void answer(char *line, size_t size) { snprintf(line, size, "action %ld %ld", action_run(3), bonus_get()); }

//@ pair static-member-initial-value dangerous
//@ says a static member of a class starts with another value
struct Settings { static long limit; static long used; };
long Settings::limit = OLD_NEW(10, 20);
long Settings::used;
KEPT long limit_left(void) { return Settings::limit - Settings::used; }
KEPT void limit_use(long n) { Settings::used += n; }
KEPT void limit_set(long n) { if (n) Settings::limit = n; }
KEPT long limit_get(void) { return Settings::limit; }
void setup(void)
{
    limit_use(3);
    limit_set(0);
}
void answer(char *line, size_t size)
{
    limit_set(0);
    snprintf(line, size, "limit %ld %ld", limit_left(), limit_get());
}

//@ pair static-object-constructed dangerous
//@ says the constructor of a static object sets another value; it has run
struct Registry {
    long entries[4];
    Registry() { for (int i = 0; i < 4; i++) entries[i] = i * OLD_NEW(10, 100) + getpid() * 0; }
};
static Registry registry;
KEPT long registry_at(int i) { return registry.entries[i]; }
KEPT void registry_set(int i, long v) { registry.entries[i] = v; }
KEPT long registry_sum(void) { return registry.entries[0] + registry.entries[1] + registry.entries[2]; }
void setup(void) { registry_set(0, 1); }
void answer(char *line, size_t size) { snprintf(line, size, "registry %ld %ld", registry_at(2), registry_sum()); }

//@ pair shared-pointer-becomes-plain dangerous
//@ says a shared pointer with its count becomes a plain pointer: what lies behind it in the object moves
#include <memory>
struct Job { OLD_NEW(std::shared_ptr<long>, long *) data; int prio; };
static Job *job;
KEPT Job *job_make(long v, int prio)
{
    Job *j = new Job;
    j->data = OLD_NEW(std::make_shared<long>(v), new long(v));
    j->prio = prio;
    return j;
}
KEPT long job_value(const Job *j) { return *j->data; }
KEPT int job_prio(const Job *j) { return j->prio; }
void setup(void) { job = job_make(12, 3); }
void answer(char *line, size_t size) { snprintf(line, size, "job %ld %d", job_value(job), job_prio(job)); }

//@ pair template-argument-size dangerous
//@ says a fixed-size container has another size as template argument: what lies behind it moves
#include <new>
template <int N> struct Ring {
    int items[N];
    unsigned head = 0;
    void push(int v) { items[head++ % N] = v; }
    int at(unsigned back) const { return items[(head - back) % N]; }
};
typedef Ring<OLD_NEW(8, 16)> Log;
static Log *ring;
KEPT void ring_push(Log *r, int v) { r->push(v); }
KEPT int ring_at(const Log *r, unsigned back) { return r->at(back); }
KEPT unsigned ring_head(const Log *r) { return r->head; }
void setup(void)
{
    ring = new (calloc(1, 256)) Log;
    for (int i = 0; i < 13; i++)
        ring_push(ring, i);
}
void answer(char *line, size_t size) { snprintf(line, size, "ring %d %d %u", ring_at(ring, 1), ring_at(ring, 5), ring_head(ring)); }
