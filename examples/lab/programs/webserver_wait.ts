// Concurrent server: one that waits for each child
//
// webserver3c with a wait() in its loop. No zombie is left, but wait() blocks until a child ends:
// in the meantime nobody accepts, and the server serves one client at a time again.
//
//   deno run --allow-ffi webserver_wait.ts [port [seconds]]
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  getpid,
  getppid,
  sleep,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  wait,
  write,
} from "../../../mod.ts";

becomeForkable();

const [port = "8888", seconds = "60"] = Deno.args;
if (!/^\d+$/.test(port) || Number(port) > 65535) {
  console.error(
    `Cannot listen on port "${port}": expected a number from 0 (for any free port) to 65535`,
  );
  Deno.exit(2);
}
if (!/^\d{1,9}(\.\d+)?$/.test(seconds)) {
  console.error(`Cannot sleep for "${seconds}" seconds: expected a number such as 60 or 0.5`);
  Deno.exit(2);
}
const SERVER_ADDRESS = ["", Number(port)] as const;
const REQUEST_QUEUE_SIZE = 5;
const SECONDS = Number(seconds);

function handleRequest(clientConnection: Socket): void {
  const request = clientConnection.recv(1024);
  console.log(`Child PID: ${getpid()}. Parent PID ${getppid()}`);
  write(1, request);
  const httpResponse = new TextEncoder().encode(`\
HTTP/1.1 200 OK

Hello, World!
`);
  clientConnection.sendall(httpResponse);
  sleep(SECONDS); // the others wait meanwhile
}

function serveForever(): void {
  const listenSocket = new Socket(AF_INET, SOCK_STREAM);
  listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
  try {
    listenSocket.bind(SERVER_ADDRESS);
    listenSocket.listen(REQUEST_QUEUE_SIZE);
  } catch (error) { // EADDRINUSE: another program listens there
    console.error(`${(error as Error).message}: choose another port`);
    Deno.exit(1);
  }
  console.log(`Serving HTTP on port ${listenSocket.getsockname()[1]} ...`);
  console.log(`Parent PID (PPID): ${getpid()}\n`);

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
      wait(); // blocks until the child has ended
    }
  }
}

serveForever();
