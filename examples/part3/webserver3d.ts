// Concurrent server: one that leaks
//
// The parent keeps its copy of every connection. So no client ever sees the end of its reply,
// and with the last free descriptor the server dies of EMFILE. Nobody waits for the children
// either: each stays as a zombie, and fork fails with EAGAIN when the user has too many.
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
} from "../../mod.ts";

becomeForkable();

const SERVER_ADDRESS = ["", Number(Deno.args[0] ?? 8888)] as const;
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
  listenSocket.bind(SERVER_ADDRESS);
  listenSocket.listen(REQUEST_QUEUE_SIZE);
  console.log(`Serving HTTP on port ${listenSocket.getsockname()[1]} ...`);

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
