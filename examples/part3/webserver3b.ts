// Iterative server: one that sleeps
//
// After each reply the server sleeps and keeps its client on the line. A second client can
// connect all the same, as the kernel queues it, but has to wait for its reply.
import { AF_INET, sleep, SO_REUSEADDR, SOCK_STREAM, Socket, SOL_SOCKET, write } from "../../mod.ts";

const SERVER_ADDRESS = ["", Number(Deno.args[0] ?? 8888)] as const;
const REQUEST_QUEUE_SIZE = 5;
const SECONDS = Number(Deno.args[1] ?? 60);
if (!(SECONDS >= 0)) throw new RangeError(`Cannot sleep for ${Deno.args[1]} seconds`);

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
  listenSocket.bind(SERVER_ADDRESS);
  listenSocket.listen(REQUEST_QUEUE_SIZE);
  console.log(`Serving HTTP on port ${listenSocket.getsockname()[1]} ...`);

  for (;;) {
    const [clientConnection] = listenSocket.accept();
    handleRequest(clientConnection);
    clientConnection.close();
  }
}

serveForever();
