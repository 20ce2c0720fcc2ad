// Concurrent server
//
// The parent only accepts; a child of its own serves each client, so that one that sleeps holds
// up nobody. Both have a descriptor of each socket, and each closes the one it does not need:
// a connection ends with the last descriptor of it.
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  getpid,
  getppid,
  sleep,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  write,
} from "../../mod.ts";

becomeForkable();

const SERVER_ADDRESS = ["", Number(Deno.args[0] ?? 8888)] as const;
const REQUEST_QUEUE_SIZE = 5;
const SECONDS = Number(Deno.args[1] ?? 60);
if (!(SECONDS >= 0)) throw new RangeError(`Cannot sleep for ${Deno.args[1]} seconds`);

function handleRequest(clientConnection: Socket): void {
  const request = clientConnection.recv(1024);
  console.log(`Child PID: ${getpid()}. Parent PID ${getppid()}`);
  write(1, request);
  const httpResponse = new TextEncoder().encode(`\
HTTP/1.1 200 OK

Hello, World!
`);
  clientConnection.sendall(httpResponse);
  sleep(SECONDS); // the others are served meanwhile
}

function serveForever(): void {
  const listenSocket = new Socket(AF_INET, SOCK_STREAM);
  listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
  listenSocket.bind(SERVER_ADDRESS);
  listenSocket.listen(REQUEST_QUEUE_SIZE);
  console.log(`Serving HTTP on port ${listenSocket.getsockname()[1]} ...`);
  console.log(`Parent PID (PPID): ${getpid()}\n`);

  for (;;) {
    const [clientConnection] = listenSocket.accept();

    const pid = fork();
    if (pid === 0) { // child
      listenSocket.close(); // close child copy
      handleRequest(clientConnection);
      clientConnection.close();
      _exit(0);
    } else { // parent
      clientConnection.close(); // close parent copy and loop over
    }
  }
}

serveForever();
