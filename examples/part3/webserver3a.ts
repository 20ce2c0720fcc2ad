// Iterative server
//
// One process, one client at a time: a connection is accepted, answered and closed before the
// next one is accepted. Other clients wait in the kernel's queue.
//
//   deno run --allow-ffi webserver3a.ts [port]
import {
  AF_INET,
  getpid,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  write,
} from "../../mod.ts";

const [port = "8888"] = Deno.args;
if (!/^\d+$/.test(port) || Number(port) > 65535) {
  console.error(
    `Cannot listen on port "${port}": expected a number from 0 (for any free port) to 65535`,
  );
  Deno.exit(2);
}
const SERVER_ADDRESS = ["", Number(port)] as const;
const REQUEST_QUEUE_SIZE = 5;

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

  for (;;) {
    const [clientConnection] = listenSocket.accept();
    handleRequest(clientConnection);
    clientConnection.close();
  }
}

serveForever();
