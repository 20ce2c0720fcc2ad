// Concurrent server: one that restarts accept
//
// After EINTR, the server calls accept again, so children may end at any time. Single requests
// leave no zombies; but when many children end at the same time, some of them become zombies.
//
//   deno run --allow-ffi webserver3f.ts [port]
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  getpid,
  SIGCHLD,
  signal,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  SyscallError,
  wait,
  write,
} from "../../mod.ts";

becomeForkable();

const [port = "8888"] = Deno.args;
if (!/^\d+$/.test(port) || Number(port) > 65535) {
  console.error(
    `Cannot listen on port "${port}": expected a number from 0 (for any free port) to 65535`,
  );
  Deno.exit(2);
}
const SERVER_ADDRESS = ["", Number(port)] as const;
const REQUEST_QUEUE_SIZE = 1024;

function grimReaper(): void {
  wait(); // for one child
}

function handleRequest(clientConnection: Socket): void {
  const request = clientConnection.recv(1024);
  write(1, request);
  const httpResponse = new TextEncoder().encode(`\
HTTP/1.1 200 OK

Hello, World!
`);
  clientConnection.sendall(httpResponse);
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
  console.log(`PID: ${getpid()}`);

  signal(SIGCHLD, grimReaper);

  for (;;) {
    let clientConnection: Socket;
    try {
      [clientConnection] = listenSocket.accept();
    } catch (error) {
      // EINTR: the handler ran, call accept again
      if (error instanceof SyscallError && error.code === "EINTR") continue;
      throw error;
    }

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
