// A web server from scratch: socket, bind, listen, then accept and fork in a loop
//
// Like webserver3g, but the parent reads the request before it forks. A client that connects and
// sends nothing therefore delays all others, and the handler can interrupt that read too.
//
//   deno run --allow-ffi from_scratch.ts [port]
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  getpid,
  getppid,
  SIGCHLD,
  signal,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  SyscallError,
  waitpid,
  WNOHANG,
} from "../../mod.ts";

becomeForkable();

const [port = "8000"] = Deno.args;
if (!/^\d+$/.test(port) || Number(port) > 65535) {
  console.error(
    `Cannot listen on port "${port}": expected a number from 0 (for any free port) to 65535`,
  );
  Deno.exit(2);
}
const SERVER_HOST = "0.0.0.0"; // all interfaces
const SERVER_PORT = Number(port);

function waitForChildrenProcess(): void {
  for (;;) {
    try {
      const { pid } = waitpid(-1, WNOHANG); // any child, without waiting
      if (pid === 0) return; // no more zombies
    } catch {
      return; // ECHILD: no more children
    }
  }
}

function receiveRequest(clientConnection: Socket): Uint8Array {
  for (;;) {
    try {
      return clientConnection.recv(1024);
    } catch (error) {
      // EINTR: a child of an earlier client ended, and the handler ran; call recv again
      if (!(error instanceof SyscallError && error.code === "EINTR")) throw error;
    }
  }
}

function serve(): void {
  const serverSocket = new Socket(AF_INET, SOCK_STREAM);
  serverSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
  try {
    serverSocket.bind([SERVER_HOST, SERVER_PORT]);
    serverSocket.listen(1);
  } catch (error) { // EADDRINUSE: another program listens there
    console.error(`${(error as Error).message}: choose another port`);
    Deno.exit(1);
  }
  console.log(`Listening on port ${serverSocket.getsockname()[1]} ...`);
  console.log(`PID: ${getpid()}`);

  signal(SIGCHLD, waitForChildrenProcess);

  for (;;) {
    let clientConnection: Socket;
    try {
      [clientConnection] = serverSocket.accept();
    } catch (error) {
      // EINTR: the handler ran, call accept again
      if (error instanceof SyscallError && error.code === "EINTR") continue;
      throw error;
    }
    receiveRequest(clientConnection);

    const pid = fork();
    if (pid === 0) { // child
      serverSocket.close(); // close child copy
      console.log(`Child PID: ${getpid()}. Parent PID ${getppid()}`);
      const response = "HTTP/1.1 200 OK\n\nHello, World!";
      clientConnection.sendall(new TextEncoder().encode(response));
      clientConnection.close();
      _exit(0); // child exits here
    } else { // parent
      clientConnection.close(); // close parent copy
    }
  }
}

serve();
