"""webserver3e in Python, where the server survives.

SIGCHLD interrupts accept() here as well. Since Python 3.5 (PEP 475), Python runs the handler and
then calls accept() again by itself, so the program never sees EINTR (InterruptedError).

  python3 eintr.py [port [seconds]]
"""
import os
import signal
import socket
import sys
import time

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3


def reap(signum, frame):
    os.wait()


signal.signal(signal.SIGCHLD, reap)
with socket.create_server(("", port), backlog=5) as listener:
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 200 OK\n\nHello, World!\n")
            time.sleep(seconds)
            os._exit(0)
        connection.close()
