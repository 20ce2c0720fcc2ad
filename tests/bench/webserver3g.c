/* The article's finished server in C, in the shape of examples/part3/webserver3g.ts. */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REQUEST_QUEUE_SIZE = 1024 };

static const char RESPONSE[] = "HTTP/1.1 200 OK\n\nHello, World!\n";

static void die(const char *call)
{
    perror(call);
    exit(1);
}

static void grim_reaper(int signum)
{
    int before = errno;
    (void)signum;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = before;
}

static void handle_request(int client_connection)
{
    char request[1024];
    ssize_t received = recv(client_connection, request, sizeof request, 0);
    if (received > 0 && write(STDOUT_FILENO, request, received) == -1)
        die("write");
    send(client_connection, RESPONSE, sizeof RESPONSE - 1, MSG_NOSIGNAL);
}

int main(int argc, char **argv)
{
    int listen_socket = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8888),
    };
    setsockopt(listen_socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listen_socket, (struct sockaddr *)&address, sizeof address) == -1)
        die("bind");
    if (listen(listen_socket, REQUEST_QUEUE_SIZE) == -1)
        die("listen");

    struct sigaction action = { .sa_handler = grim_reaper };
    sigaction(SIGCHLD, &action, NULL);

    for (;;) {
        int client_connection = accept(listen_socket, NULL, NULL);
        if (client_connection == -1) {
            if (errno == EINTR) /* the handler ran, start accept again */
                continue;
            die("accept");
        }
        pid_t pid = fork();
        if (pid == -1)
            die("fork");
        if (pid == 0) {
            close(listen_socket);
            handle_request(client_connection);
            close(client_connection);
            _exit(0);
        }
        close(client_connection);
    }
}
