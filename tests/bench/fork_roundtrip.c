/*
 * The same as fork_roundtrip.ts in C: the least that a round trip can take.
 *
 * With "scattered" it first fills as much memory as a Deno process has, in pages
 * as far apart as V8 puts its own; with "contiguous" as much in one piece. What
 * that adds is the kernel's work of copying page tables.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 100, CHUNKS = 44, CHUNK_BYTES = 256 * 1024 };

static void die(const char *call)
{
    perror(call);
    exit(1);
}

static void fill(void *address, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (address ? MAP_FIXED_NOREPLACE : 0);
    void *memory = mmap(address, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    /* V8's pages are too small for huge ones. */
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    memset(memory, 1, bytes);
}

/* Addresses in 46 bits, as V8 draws them; the same ones in every run. */
static void *scattered_address(int i)
{
    unsigned long random = (i + 1) * 0x9e3779b97f4a7c15UL;
    return (void *)((random >> 18) & ~(CHUNK_BYTES - 1UL));
}

static void round_trips(int count)
{
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == -1)
            die("fork");
        if (pid == 0)
            _exit(0);
        if (waitpid(pid, NULL, 0) == -1)
            die("waitpid");
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 0;
    const char *memory = argc > 2 ? argv[2] : "plain";

    if (strcmp(memory, "scattered") == 0)
        for (int i = 0; i < CHUNKS; i++)
            fill(scattered_address(i), CHUNK_BYTES);
    else if (strcmp(memory, "contiguous") == 0)
        fill(NULL, (size_t)CHUNKS * CHUNK_BYTES);

    round_trips(WARM_UP);
    double start = now();
    round_trips(count);
    printf("%f\n", (now() - start) / count);
    return 0;
}
