// Iterative server
//
// One process, one client at a time: a connection is accepted, answered and closed before the
// next one is accepted. Whoever comes meanwhile waits in the kernel's queue.
import { AF_INET, SO_REUSEADDR, SOCK_STREAM, Socket, SOL_SOCKET, write } from "../../mod.ts";

const SERVER_ADDRESS = ["", Number(Deno.args[0] ?? 8888)] as const;
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
