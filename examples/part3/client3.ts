// Test client
//
// Forks clients. Each opens connections, sends a request on each, and keeps all of them open until
// the last one is made. It does not read the responses: it shows how the servers fail.
// 128 clients at the same time: --max-clients 128 --max-conns 1
//
//   deno run --allow-ffi client3.ts [options]
import {
  _exit,
  AF_INET,
  becomeForkable,
  fork,
  MAP_ANONYMOUS,
  MAP_SHARED,
  mmap,
  sleep,
  SO_SNDTIMEO,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  SyscallError,
  waitpid,
  WNOHANG,
} from "../../mod.ts";

becomeForkable();

const HELP = `\
Test client: opens many connections at once to a server on this machine.

Usage: deno run --allow-ffi client3.ts [options]

  --max-clients N   clients, each a process of its own (default 1)
  --max-conns M     connections of each client, all open at once (default 1024)
  --port PORT       the server's port (default 8888)
  --timeout S       seconds to wait for a connection before giving up (default 30)
  --help            this text

It makes N times M connections and sends a request on each. A client stops at its
first failure. Exit code: 0 when all were made, 1 when any failed, 2 when an option
is wrong.
`;

const options = new Map([
  ["--max-clients", 1],
  ["--max-conns", 1024],
  ["--port", 8888],
  ["--timeout", 30],
]);
for (let i = 0; i < Deno.args.length; i++) {
  // --name value, or --name=value
  const [name = "", value = Deno.args[++i] ?? ""] = Deno.args[i]!.split(/=(.*)/s);
  if (name === "--help" || name === "-h") {
    console.log(HELP.trimEnd());
    Deno.exit(0);
  }
  if (!options.has(name)) usageError(`unknown argument "${name}"`);
  const most = name === "--port" ? 65535 : 1_000_000;
  if (!/^\d+$/.test(value) || Number(value) < 1 || Number(value) > most) {
    usageError(`${name}: expected a whole number from 1 to ${most}, not "${value}"`);
  }
  options.set(name, Number(value));
}
const MAX_CLIENTS = options.get("--max-clients")!;
const MAX_CONNS = options.get("--max-conns")!;
const PORT = options.get("--port")!;
const TIMEOUT = options.get("--timeout")!;

const SERVER_ADDRESS = ["localhost", PORT] as const;
const REQUEST = new TextEncoder().encode(
  `GET /hello HTTP/1.1\r\nHost: localhost:${PORT}\r\n\r\n`,
);

// The clients' counters, in memory that all of them share
const counters = new Int32Array(mmap(8, MAP_SHARED | MAP_ANONYMOUS));
const CONNECTED = 0;
const FAILURES = 1;

function usageError(message: string): never {
  console.error(`client3: ${message} (see --help)`);
  Deno.exit(2);
}

function connectAll(): void {
  const socks: Socket[] = [];
  for (let i = 0; i < MAX_CONNS; i++) {
    const sock = new Socket(AF_INET, SOCK_STREAM);
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, TIMEOUT);
    sock.connect(SERVER_ADDRESS);
    sock.sendall(REQUEST);
    socks.push(sock); // kept open: _exit() closes them
    Atomics.add(counters, CONNECTED, 1);
  }
}

// The first failure prints the reason. The others are only counted.
function reportFailure(error: unknown): void {
  if (Atomics.add(counters, FAILURES, 1) > 0) return;
  // EINPROGRESS: SO_SNDTIMEO expired, and the kernel would continue to try
  if (error instanceof SyscallError && error.code === "EINPROGRESS") {
    console.error(`client3: No connection within ${TIMEOUT} seconds: the server's queue is full`);
  } else {
    console.error(`client3: ${error instanceof Error ? error.message : error}`);
  }
}

function main(): void {
  const wanted = MAX_CLIENTS * MAX_CONNS;
  let nextReport = performance.now() + 1000;
  function reportProgress(): void {
    if (performance.now() < nextReport) return;
    nextReport += 1000;
    console.error(`client3: ${counters[CONNECTED]} of ${wanted} connected ...`);
  }

  let running = 0;
  for (let i = 0; i < MAX_CLIENTS; i++) {
    let pid: number;
    try {
      pid = fork();
    } catch (error) { // EAGAIN: go on with the clients that there are
      reportFailure(error);
      break;
    }
    if (pid === 0) { // child
      try {
        connectAll();
      } catch (error) {
        reportFailure(error);
      } finally {
        _exit(0);
      }
    }
    running++; // parent
    reportProgress();
  }

  while (running > 0) {
    if (waitpid(-1, WNOHANG).pid > 0) running--;
    else sleep(0.01);
    reportProgress();
  }

  const connected = counters[CONNECTED]!;
  console.log(`client3: ${connected} connected, ${wanted - connected} failed`);
  if (connected < wanted) Deno.exit(1);
}

main();
