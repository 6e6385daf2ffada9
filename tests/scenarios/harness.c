/* The loop of every scenario program, compiled the same way into the old and the new build.
 *
 * Usage: program [workers]. One line in, one line out:
 *   ask        the scenario's answer, computed by the main thread
 *   seen       what each worker was answered so far: "a|a|b;a|b|b"; the same again and again is told as twice; waits for a
 *              fresh answer of each
 *   hold       start the scenario's hold() on a thread and wait until it waits
 *   release    let hold() go on and wait until it has returned
 *   fork       a child with a loop of its own; replies its pid
 *   child N C  the reply of child N (0 is the first) to command C
 *   quit       exit 0, by way of exit handlers and destructors
 * The program ends by itself after ten minutes, whatever happens. */
#define _GNU_SOURCE
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 128, HISTORY_MAX = 12, WORKERS_MAX = 256, CHILDREN_MAX = 8, LIFE_SECONDS = 600 };

struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    atomic_ulong rounds;
    int length;
    char history[HISTORY_MAX][LINE_BYTES];
};

struct child {
    pid_t pid;
    FILE *to, *from;
};

static struct worker workers[WORKERS_MAX];
static int worker_count;
static struct child children[CHILDREN_MAX];
static int child_count;
static int release_pipe[2];
static atomic_int waiting, stopping;
static pthread_t holder;

static void fail(const char *what)
{
    fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
    exit(1);
}

void harness_wait(void)
{
    char byte;
    atomic_store(&waiting, 1);
    while (read(release_pipe[0], &byte, 1) < 0 && errno == EINTR)
        ;
}

static void pause_microseconds(long microseconds)
{
    struct timespec left = { 0, microseconds * 1000 };
    while (nanosleep(&left, &left) != 0)
        ;
}

static void remember(struct worker *worker, const char *line)
{
    pthread_mutex_lock(&worker->lock);
    int length = worker->length;
    int twice = length > 1 && !strcmp(worker->history[length - 1], line) && !strcmp(worker->history[length - 2], line);
    if (!twice && length < HISTORY_MAX)
        strcpy(worker->history[worker->length++], line);
    pthread_mutex_unlock(&worker->lock);
    atomic_fetch_add(&worker->rounds, 1);
}

static void *work(void *context)
{
    struct worker *worker = context;
    char line[LINE_BYTES];
    while (!atomic_load(&stopping)) {
        answer(line, sizeof line);
        remember(worker, line);
        pause_microseconds(worker_count > 8 ? 2000 : 300);
    }
    return NULL;
}

static void start_workers(int count)
{
    worker_count = count < WORKERS_MAX ? count : WORKERS_MAX;
    for (int i = 0; i < worker_count; i++) {
        pthread_mutex_init(&workers[i].lock, NULL);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            fail("thread");
    }
}

static void stop_workers(void)
{
    atomic_store(&stopping, 1);
    for (int i = 0; i < worker_count; i++)
        pthread_join(workers[i].thread, NULL);
}

static void tell_seen(FILE *out)
{
    for (int i = 0; i < worker_count; i++) {
        /* Two rounds more: the second began after this command came. */
        unsigned long until = atomic_load(&workers[i].rounds) + 2;
        while (atomic_load(&workers[i].rounds) < until)
            pause_microseconds(100);
        pthread_mutex_lock(&workers[i].lock);
        for (int k = 0; k < workers[i].length; k++)
            fprintf(out, "%s%s", k ? "|" : i ? ";" : "", workers[i].history[k]);
        pthread_mutex_unlock(&workers[i].lock);
    }
    fputc('\n', out);
}

static void *hold_thread(void *context)
{
    hold();
    return context;
}

static void start_hold(FILE *out)
{
    atomic_store(&waiting, 0);
    if (!hold || pthread_create(&holder, NULL, hold_thread, NULL) != 0)
        fail("hold");
    while (!atomic_load(&waiting))
        pause_microseconds(100);
    pause_microseconds(2000);
    fprintf(out, "held\n");
}

static void release_hold(FILE *out)
{
    if (write(release_pipe[1], "", 1) != 1 || pthread_join(holder, NULL) != 0)
        fail("release");
    fprintf(out, "released\n");
}

static void serve(FILE *in, FILE *out);

static void fork_child(FILE *out)
{
    int down[2], up[2];
    struct child *child = &children[child_count];
    if (child_count == CHILDREN_MAX || pipe(down) || pipe(up))
        fail("pipe");
    fflush(NULL);
    child->pid = fork();
    if (child->pid < 0)
        fail("fork");
    if (child->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(LIFE_SECONDS);
        close(down[1]);
        close(up[0]);
        for (; child_count > 0; child_count--) {
            fclose(children[child_count - 1].to);
            fclose(children[child_count - 1].from);
        }
        serve(fdopen(down[0], "r"), fdopen(up[1], "w"));
        _exit(0);
    }
    close(down[0]);
    close(up[1]);
    child->to = fdopen(down[1], "w");
    child->from = fdopen(up[0], "r");
    child_count++;
    fprintf(out, "%d\n", (int)child->pid);
}

static void ask_child(const char *arguments, FILE *out)
{
    char reply[4 * LINE_BYTES];
    int index = arguments[0] - '0';
    if (index < 0 || index >= child_count)
        fail("child");
    fprintf(children[index].to, "%s\n", arguments + 2);
    fflush(children[index].to);
    if (!fgets(reply, sizeof reply, children[index].from))
        strcpy(reply, "gone\n");
    fputs(reply, out);
}

static void serve(FILE *in, FILE *out)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, in)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "quit"))
            break;
        if (!strcmp(line, "ask")) {
            answer(line, sizeof line);
            fprintf(out, "%s\n", line);
        } else if (!strcmp(line, "seen")) {
            tell_seen(out);
        } else if (!strcmp(line, "hold")) {
            start_hold(out);
        } else if (!strcmp(line, "release")) {
            release_hold(out);
        } else if (!strcmp(line, "fork")) {
            fork_child(out);
        } else if (!strncmp(line, "child ", 6)) {
            ask_child(line + 6, out);
        } else {
            fprintf(out, "what?\n");
        }
        fflush(out);
    }
}

static void end_children(void)
{
    for (int i = 0; i < child_count; i++) {
        int status;
        fclose(children[i].to);
        if (waitpid(children[i].pid, &status, 0) < 0 || status != 0)
            fail("a child ended badly");
    }
}

int main(int count, char **arguments)
{
    alarm(LIFE_SECONDS);
    if (pipe(release_pipe) != 0)
        fail("pipe");
    if (setup)
        setup();
    start_workers(count > 1 ? atoi(arguments[1]) : 0);
    printf("ready\n");
    fflush(stdout);
    serve(stdin, stdout);
    stop_workers();
    end_children();
    printf("bye\n");
    return 0;
}
