# The same as fork_roundtrip.ts in Python.
import os
import sys
import time

WARM_UP = 100

count = int(sys.argv[1])


def round_trips(count):
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


round_trips(WARM_UP)
start = time.perf_counter()
round_trips(count)
print((time.perf_counter() - start) * 1e6 / count)
