# The same as client.c, where there is no C compiler.
#
# usage: client.py PORT COUNT CONCURRENCY
import itertools
import os
import socket
import sys
import threading
import time

PATIENCE = 20
REQUEST = b"GET /hello HTTP/1.1\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\n\nHello, World!\n"

port, count, concurrency = map(int, sys.argv[1:])
taken = itertools.count(1)


def exchange():
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(REQUEST)
        answer = b"".join(iter(lambda: connection.recv(1024), b""))
    if answer != RESPONSE:
        raise ValueError(f"wrong answer of {len(answer)} bytes")


def client():
    try:
        while next(taken) <= count:
            exchange()
    except Exception as error:
        print(error, file=sys.stderr)
        os._exit(1)


threads = [threading.Thread(target=client) for _ in range(concurrency)]
start = time.perf_counter()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(count / (time.perf_counter() - start))
