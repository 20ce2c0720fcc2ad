// Copies of a descriptor
//
// Accepts one client, forks two children, and answers. Now three processes have a descriptor of the
// same connection, and SIGUSR1 makes a process close its own one. The client gets the end of its
// response (FIN) when the last of them is closed, by close() or by the end of its process.
//
//   deno run --allow-ffi copies.ts [port]
//   kill -USR1 PID
import {
  AF_INET,
  becomeForkable,
  fork,
  getpid,
  pause,
  retryOnEintr,
  signal,
  SIGUSR1,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
} from "../../../mod.ts";

becomeForkable({ signals: [SIGUSR1] });

const [port = "8888"] = Deno.args;
if (!/^\d+$/.test(port) || Number(port) > 65535) {
  console.error(
    `Cannot listen on port "${port}": expected a number from 0 (for any free port) to 65535`,
  );
  Deno.exit(2);
}

const listenSocket = new Socket(AF_INET, SOCK_STREAM);
listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
try {
  listenSocket.bind(["", Number(port)]);
  listenSocket.listen(5);
} catch (error) { // EADDRINUSE: another program listens there
  console.error(`${(error as Error).message}: choose another port`);
  Deno.exit(1);
}
console.log(`Serving one client on port ${listenSocket.getsockname()[1]} ...`);

const [connection] = listenSocket.accept();
listenSocket.close(); // there is no second client

signal(SIGUSR1, () => connection.close()); // children inherit the handler

if (fork() > 0 && fork() > 0) { // the parent
  connection.recv(1024);
  connection.sendall(new TextEncoder().encode("HTTP/1.1 200 OK\n\nHello, World!\n"));
}
console.log(`${getpid()} has a copy`);

for (;;) retryOnEintr(pause);
