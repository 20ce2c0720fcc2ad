// The socket pair
//
// Four values identify a TCP connection: the address and port of each end. The client does not
// choose its own port: the kernel assigns an ephemeral port when it connects. Both ends are in this
// process. Each sees the same pair, with its own address first. At its end it sleeps, so that `ss
// -tnp` can show both.
//
//   deno run --allow-ffi socket_pair.ts [seconds]
import { AF_INET, formatAddress, sleep, SOCK_STREAM, Socket } from "../../mod.ts";

const [seconds = "0"] = Deno.args;
if (!/^\d{1,9}(\.\d+)?$/.test(seconds)) {
  console.error(`Cannot sleep for "${seconds}" seconds: expected a number such as 60 or 0.5`);
  Deno.exit(2);
}
const SECONDS = Number(seconds);

const listenSocket = new Socket(AF_INET, SOCK_STREAM);
listenSocket.bind(["localhost", 0]);
listenSocket.listen(1);

const sock = new Socket(AF_INET, SOCK_STREAM);
sock.connect(["localhost", Number(listenSocket.getsockname()[1])]);
const [connection] = listenSocket.accept();

const [host, port] = sock.getsockname();
console.log(`The kernel gave the client ${host} and the ephemeral port ${port}`);

function socketPair(end: Socket): string {
  return `{${formatAddress(end.getsockname())}, ${formatAddress(end.getpeername())}}`;
}
console.log(`client: ${socketPair(sock)}`);
console.log(`server: ${socketPair(connection)}`);
sleep(SECONDS);
