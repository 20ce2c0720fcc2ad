// Echo server with forking
//
// Each client gets its own child, which sends back what it receives until the client closes the
// connection. The parent has no signal handler: it reaps children that have ended whenever a client
// connects, so a few zombies remain until the next one does.
//
//   deno run --allow-ffi echoserver.ts [port]
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
  waitpid,
  WNOHANG,
} from "../../mod.ts";

becomeForkable();

function reap(): void {
  for (;;) {
    let pid: number;
    try {
      ({ pid } = waitpid(-1, WNOHANG)); // any child, without waiting
    } catch {
      return; // ECHILD: no more children
    }
    if (pid === 0) return; // no more zombies
    console.log(`Reaped child process ${pid}`);
  }
}

const [port = "51423"] = Deno.args;
if (!/^\d+$/.test(port) || Number(port) > 65535) {
  console.error(
    `Cannot listen on port "${port}": expected a number from 0 (for any free port) to 65535`,
  );
  Deno.exit(2);
}
const host = ""; // all interfaces

const s = new Socket(AF_INET, SOCK_STREAM);
s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
try {
  s.bind([host, Number(port)]);
  s.listen(1);
} catch (error) { // EADDRINUSE: another program listens there
  console.error(`${(error as Error).message}: choose another port`);
  Deno.exit(1);
}

console.log(`Parent at ${getpid()} listening for connections`);
console.log(`on port ${s.getsockname()[1]}`);

for (;;) {
  let clientsock: Socket;
  try {
    [clientsock] = s.accept();
  } catch (error) {
    console.error(String(error)); // EMFILE: a stack trace would take a descriptor too
    continue;
  }

  // Clean up old children.
  reap();

  // Fork a process for this connection.
  const pid = fork();

  if (pid !== 0) { // parent
    clientsock.close(); // close parent copy and loop over
  } else { // child
    s.close(); // close child copy

    try {
      const [ip, clientport] = clientsock.getpeername();
      console.log(`Child from ('${ip}', ${clientport}) being handled by PID ${getpid()}`);
      for (;;) {
        const data = clientsock.recv(4096);
        if (data.length === 0) break;
        clientsock.sendall(data);
      }
    } catch (error) {
      console.error(error);
    }

    try {
      clientsock.close();
    } catch (error) {
      console.error(error);
    }

    _exit(0); // or the child would go on in the loop, where accept fails again and again: EBADF
  }
}
