// Iterative server: one without SO_REUSEADDR
//
// webserver3a without the option. After it has closed a connection, it cannot be started again on
// its port for a minute.
//
//   deno run --allow-ffi webserver_no_reuseaddr.ts [port]
import { AF_INET, getpid, SOCK_STREAM, Socket, write } from "../../../mod.ts";

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
