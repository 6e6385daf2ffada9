/* A service over stock libsrt whose accept hook throws: libsrt catches that, in a function that the update changes. */
#include <arpa/inet.h>
#include <cstdio>
#include <netinet/in.h>
#include <stdexcept>

/* As in srt.h, which is in another package. */
extern "C" {
typedef int Hook(void *, int, int, const sockaddr *, const char *);
int srt_startup(void);
void srt_setloglevel(int);
int srt_create_socket(void);
int srt_bind(int, const sockaddr *, int);
int srt_listen(int, int);
int srt_listen_callback(int, Hook *, void *);
int srt_getsockname(int, sockaddr *, int *);
int srt_connect(int, const sockaddr *, int);
int srt_getrejectreason(int);
int srt_close(int);
}

static int hooks;

static int hook(void *, int, int, const sockaddr *, const char *)
{
    ++hooks;
    throw std::runtime_error("not this one");
}

int main()
{
    sockaddr_in address = {};
    int size = sizeof address;
    sockaddr *where = reinterpret_cast<sockaddr *>(&address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    srt_startup();
    srt_setloglevel(0);
    int listener = srt_create_socket();
    if (srt_bind(listener, where, size) != 0 || srt_listen(listener, 5) != 0)
        return 1;
    srt_listen_callback(listener, hook, nullptr);
    srt_getsockname(listener, where, &size);
    puts("ready");
    fflush(stdout);
    for (char line[16]; fgets(line, sizeof line, stdin);) {
        int caller = srt_create_socket();
        int result = srt_connect(caller, where, sizeof address);
        printf("connect %d reject %d hooks %d\n", result, srt_getrejectreason(caller), hooks);
        fflush(stdout);
        srt_close(caller);
    }
    return 0;
}
