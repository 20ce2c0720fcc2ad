// Iterative server: one that sleeps
//
// After each response, the server sleeps before it closes the connection. A second client can
// connect, because the kernel queues it, but it must wait for its response.
//
//   deno run --allow-ffi webserver3b.ts [port [seconds]]
import {
  AF_INET,
  getpid,
  sleep,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  write,
} from "../../mod.ts";

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
  write(1, request);
  const httpResponse = new TextEncoder().encode(`\
HTTP/1.1 200 OK

Hello, World!
`);
  clientConnection.sendall(httpResponse);
  sleep(SECONDS); // nobody else is served meanwhile
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
