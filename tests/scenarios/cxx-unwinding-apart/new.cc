#include "harness.h"
#include <atomic>
#include <cstdio>
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

static volatile int base = 5;
static std::atomic<int> destroyed;
static sem_t inside, never;

namespace {
struct Guard {
    explicit Guard(int weight) : weight(weight) {}
    ~Guard()
    {
        destroyed += weight;
    }
    int weight;
};
} // namespace

KEPT int complain(int value)
{
    if (value > base)
        throw std::length_error("long");
    return value;
}

/* Changed: a thread is cancelled in here. */
KEPT void waits()
{
    Guard guard(2);
    sem_post(&inside);
    sem_wait(&never);
    base = 6;
}

/* Changed: lets an exception pass. */
KEPT int passes(int value)
{
    Guard guard(4);
    return complain(value) + 4;
}

static void *run(void *)
{
    Guard outer(1000);
    waits();
    return nullptr;
}

KEPT int cancelled()
{
    pthread_t thread;
    void *result = nullptr;
    destroyed = 0;
    if (pthread_create(&thread, nullptr, run, nullptr) != 0)
        return -1;
    sem_wait(&inside);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    return result == PTHREAD_CANCELED ? destroyed.load() : -2;
}

KEPT int thrown()
{
    destroyed = 0;
    try {
        passes(9);
    } catch (const std::logic_error &) {
        return destroyed.load();
    }
    return -1;
}

/* In a child, and with libraries that come and go. */
KEPT int forked()
{
    void *library = dlopen("libresolv.so.2", RTLD_NOW | RTLD_LOCAL);
    int first = thrown();
    pid_t child = fork();
    if (child == 0)
        _exit(thrown());
    int status = -1;
    waitpid(child, &status, 0);
    if (library != nullptr)
        dlclose(library);
    return first == thrown() && WIFEXITED(status) ? WEXITSTATUS(status) : -3;
}

void setup(void)
{
    sem_init(&inside, 0, 0);
    sem_init(&never, 0, 0);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "cancelled %d forked %d", cancelled(), forked());
}
