/* Opens a library, closes it, and has children. argv[1]: the library. Commands on stdin, one letter each:
 * a  answer    c  close the library    o  open it    F  fork a child that stays    C  have that child answer
 * v  vfork and exec itself, which answers    p  the same by posix_spawn    e  exec itself
 * s  a process on the same memory (CLONE_VM) that waits    S  the same, under a filter that denies mmap */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static const char *path;
static void *library;
static int to_child[2];
static char *stack_end;

static void answer(void)
{
    int (*first)(void) = library ? (int (*)(void))dlsym(library, "first") : NULL;
    int (*second)(void) = library ? (int (*)(void))dlsym(library, "second") : NULL;
    if (first)
        printf("%d %d\n", first(), second());
    else
        printf("closed\n");
    fflush(stdout);
}

static int sharing(void *context)
{
    struct sock_filter deny[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof deny / sizeof *deny, deny };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (context) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    }
    for (;;)
        pause();
    return 0;
}

static int again(const char *how)
{
    char *arguments[] = { "loading", (char *)path, (char *)how, NULL };
    return execv("/proc/self/exe", arguments);
}

static void have_child(int with_spawn)
{
    char *arguments[] = { "loading", (char *)path, "once", NULL };
    pid_t child;
    if (with_spawn)
        posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ);
    else if ((child = vfork()) == 0)
        _exit(again("once"));
    waitpid(child, NULL, 0);
}

static void serve(int from)
{
    char c;
    while (read(from, &c, 1) == 1) {
        if (c == 'a')
            answer();
        if (c == 'c' && library) {
            dlclose(library);
            library = NULL;
            puts("done");
        }
        if (c == 'o') {
            library = dlopen(path, RTLD_NOW);
            puts("done");
        }
        if (c == 'v' || c == 'p')
            have_child(c == 'p');
        if (c == 'e')
            again("serve");
        if (c == 's' || c == 'S')
            printf("%d\n", clone(sharing, stack_end, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD,
                                 c == 'S' ? stack_end : NULL));
        if (c == 'F') {
            int child;
            if (pipe(to_child) || (child = fork()) < 0)
                exit(1);
            if (child == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                serve(to_child[0]);
                _exit(0);
            }
            printf("%d\n", child);
        }
        if (c == 'C' && write(to_child[1], "a", 1) != 1)
            exit(1);
        fflush(stdout);
    }
}

/* Have more of the stack mapped than is in use. */
static void deepen(void)
{
    volatile char room[1 << 18];
    room[0] = room[1 << 17] = 0;
}

int main(int count, char **arguments)
{
    char room[1 << 17]; /* a part of this stack, so that it is known for one */
    alarm(300);
    stack_end = room + sizeof room;
    deepen();
    path = arguments[1];
    library = dlopen(path, RTLD_NOW);
    if (count > 2 && !strcmp(arguments[2], "once")) {
        answer();
        return 0;
    }
    puts("ready");
    fflush(stdout);
    serve(0);
    return 0;
}
