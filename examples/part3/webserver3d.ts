// Concurrent server: one that leaks
//
// The parent keeps its copy of every connection. So no client ever sees the end of its response,
// and when no descriptor is free, the server ends with EMFILE. It does not wait for its children
// either: each stays as a zombie, and fork fails with EAGAIN when the user has too many.
//
//   deno run --allow-ffi webserver3d.ts [port]
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  getpid,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
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
const REQUEST_QUEUE_SIZE = 5;

function handleRequest(clientConnection: Socket): void {
  clientConnection.recv(1024);
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

  const clients: Socket[] = [];
  for (;;) {
    const [clientConnection] = listenSocket.accept();
    clients.push(clientConnection); // what the parent never closes

    const pid = fork();
    if (pid === 0) { // child
      listenSocket.close(); // close child copy
      handleRequest(clientConnection);
      clientConnection.close();
      _exit(0);
    } else { // parent
      // clientConnection.close();
      console.log(clients.length);
    }
  }
}

serveForever();
