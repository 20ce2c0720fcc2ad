// Concurrent server: one that waits for its children
//
// A child that ends sends SIGCHLD to its parent, whose handler waits for it: no zombie stays.
// But the handler interrupts whatever the parent is blocked in, and accept fails with EINTR.
// The first child that ends kills the server.
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  SIGCHLD,
  signal,
  sleep,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  wait,
  write,
} from "../../mod.ts";

becomeForkable();

const SERVER_ADDRESS = ["", Number(Deno.args[0] ?? 8888)] as const;
const REQUEST_QUEUE_SIZE = 5;
const SECONDS = Number(Deno.args[1] ?? 3);
if (!(SECONDS >= 0)) throw new RangeError(`Cannot sleep for ${Deno.args[1]} seconds`);

function grimReaper(): void {
  const { pid, status } = wait();
  console.log(`Child ${pid} terminated with status ${status.raw}\n`);
}

function handleRequest(clientConnection: Socket): void {
  const request = clientConnection.recv(1024);
  write(1, request);
  const httpResponse = new TextEncoder().encode(`\
HTTP/1.1 200 OK

Hello, World!
`);
  clientConnection.sendall(httpResponse);
  sleep(SECONDS); // by then the parent is blocked in accept again
}

function serveForever(): void {
  const listenSocket = new Socket(AF_INET, SOCK_STREAM);
  listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
  listenSocket.bind(SERVER_ADDRESS);
  listenSocket.listen(REQUEST_QUEUE_SIZE);
  console.log(`Serving HTTP on port ${listenSocket.getsockname()[1]} ...`);

  signal(SIGCHLD, grimReaper);

  for (;;) {
    const [clientConnection] = listenSocket.accept();

    const pid = fork();
    if (pid === 0) { // child
      listenSocket.close(); // close child copy
      handleRequest(clientConnection);
      clientConnection.close();
      _exit(0);
    } else { // parent
      clientConnection.close(); // close parent copy and loop over
    }
  }
}

serveForever();
