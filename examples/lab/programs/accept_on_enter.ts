// Iterative server: one that accepts a connection for each line that is typed
//
// Until then, connections wait in the kernel's queue, whose length is the backlog.
//
//   deno run --allow-ffi accept_on_enter.ts [port [backlog]]
import {
  AF_INET,
  getpid,
  read,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
} from "../../../mod.ts";

const [port = "8888", backlog = "1"] = Deno.args;

const listenSocket = new Socket(AF_INET, SOCK_STREAM);
listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
listenSocket.bind(["", Number(port)]);
listenSocket.listen(Number(backlog));
console.log(`Serving HTTP on port ${port} ...`);
console.log(`PID: ${getpid()}`);

while (read(0, 80).length > 0) { // Enter; nothing is read at the end of the input
  const [clientConnection] = listenSocket.accept();
  clientConnection.recv(1024);
  clientConnection.sendall(new TextEncoder().encode("HTTP/1.1 200 OK\n\nHello, World!\n"));
  clientConnection.close();
}
