// Concurrent server: the gateway
//
// A server is more useful if it can run any application. Python's interface for that is WSGI; here,
// it is a module with a fetch function, the same as for `deno serve`. The server is still that of
// webserver3g. The child passes its connection to Deno's own HTTP server, which calls the
// application. That requires an event loop: hence the runtime, and the await, which only the child
// reaches.
//
//   deno run -A webserver3h.ts app.ts [port]
import {
  _exit,
  AF_INET,
  AppError,
  becomeForkable,
  fork,
  getpid,
  loadApp,
  serveConnection,
  SIGCHLD,
  signal,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  SyscallError,
  waitpid,
  warmUp,
  WNOHANG,
} from "../../mod.ts";

becomeForkable();

const [file, port = "8888"] = Deno.args;
if (file === undefined) {
  console.error("Usage: deno run -A webserver3h.ts app.ts [port]");
  Deno.exit(2);
}
if (!/^\d+$/.test(port) || Number(port) > 65535) {
  console.error(
    `Cannot listen on port "${port}": expected a number from 0 (for any free port) to 65535`,
  );
  Deno.exit(2);
}
const SERVER_ADDRESS = ["", Number(port)] as const;
const REQUEST_QUEUE_SIZE = 1024;

function grimReaper(): void {
  for (;;) {
    try {
      const { pid } = waitpid(-1, WNOHANG); // any child, without waiting
      if (pid === 0) return; // no more zombies
    } catch {
      return; // ECHILD: no more children
    }
  }
}

async function serveForever(): Promise<void> {
  const app = await loadApp(file!);
  await warmUp(); // compile here, once, what every child will run
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

  signal(SIGCHLD, grimReaper);

  for (;;) {
    let clientConnection: Socket;
    try {
      [clientConnection] = listenSocket.accept();
    } catch (error) {
      // EINTR: the handler ran, call accept again
      if (error instanceof SyscallError && error.code === "EINTR") continue;
      throw error;
    }

    const pid = fork({ runtime: true });
    if (pid === 0) { // child
      listenSocket.close(); // close child copy
      await serveConnection(clientConnection, app);
      _exit(0);
    } else { // parent
      clientConnection.close(); // close parent copy and loop over
    }
  }
}

try {
  await serveForever();
} catch (error) {
  if (!(error instanceof AppError)) throw error;
  console.error(error.message);
  Deno.exit(1);
}
