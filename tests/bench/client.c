/*
 * The load: fresh connections to 127.0.0.1, a few at a time, each of which sends
 * a request and reads to the end. Prints connections per second, and ends with an
 * error if a single answer was wrong. client.py does the same.
 *
 * usage: client PORT COUNT CONCURRENCY
 */
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { MOST_THREADS = 64, PATIENCE = 20 };

static const char REQUEST[] = "GET /hello HTTP/1.1\r\n\r\n";
static const char RESPONSE[] = "HTTP/1.1 200 OK\n\nHello, World!\n";

static struct sockaddr_in server;
static atomic_int left;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void exchange(void)
{
    char answer[1024];
    size_t length = 0;
    struct timeval patience = { .tv_sec = PATIENCE };
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(connection, (struct sockaddr *)&server, sizeof server) == -1)
        die("connect");
    if (send(connection, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) == -1)
        die("send");
    for (;;) {
        ssize_t received = recv(connection, answer + length, sizeof answer - length, 0);
        if (received == -1)
            die("recv");
        if (received == 0)
            break;
        length += received;
    }
    close(connection);
    if (length != sizeof RESPONSE - 1 || memcmp(answer, RESPONSE, length) != 0) {
        fprintf(stderr, "wrong answer of %zu bytes\n", length);
        exit(1);
    }
}

static void *client(void *unused)
{
    while (atomic_fetch_sub(&left, 1) > 0)
        exchange();
    return unused;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: client PORT COUNT CONCURRENCY\n");
        return 2;
    }
    int count = atoi(argv[2]);
    int concurrency = atoi(argv[3]) < MOST_THREADS ? atoi(argv[3]) : MOST_THREADS;
    pthread_t threads[MOST_THREADS];

    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    left = count;

    double start = now();
    for (int i = 0; i < concurrency; i++)
        if (pthread_create(&threads[i], NULL, client, NULL) != 0)
            die("pthread_create");
    for (int i = 0; i < concurrency; i++)
        pthread_join(threads[i], NULL);
    printf("%f\n", count / (now() - start));
    return 0;
}
