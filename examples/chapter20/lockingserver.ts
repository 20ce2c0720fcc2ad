// Locking server with forking
//
// It tells each client when it last connected, from a file that all children read and write:
// lastaccess.txt in the current directory, which is emptied at the start. flock() allows several
// readers or one writer at a time.
//
// A trap: such a lock belongs to the open file, not to the process. If the parent had opened the
// file for all, every child would own the same lock, which would not make any of them wait, and all
// would read and write at the same position. So each child opens the file itself.
//
//   deno run --allow-ffi lockingserver.ts [port]
import {
  _exit,
  AF_INET,
  becomeForkable,
  type Descriptor,
  fork,
  getpid,
  type InetAddress,
  LOCK_EX,
  LOCK_SH,
  LOCK_UN,
  O_CREAT,
  O_RDWR,
  O_TRUNC,
  open,
  SEEK_SET,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  waitpid,
  WNOHANG,
} from "../../mod.ts";

becomeForkable();

/** The time as C's asctime() writes it: Thu Jul  1 06:06:42 2004 */
function asctime(): string {
  const [weekday, month, day, year, time] = String(new Date()).split(" ");
  return `${weekday} ${month} ${day!.replace(/^0/, " ")} ${time} ${year}`;
}

/** All lines of the file, each an address and a time. */
function readRecords(fd: Descriptor): string[][] {
  fd.lseek(0, SEEK_SET);
  let text = "";
  for (;;) {
    const data = fd.read(4096);
    if (data.length === 0) break;
    text += new TextDecoder().decode(data);
  }
  return text.split("\n").slice(0, -1).map((line) => line.split("|"));
}

/** The time of the last access from an address, if there was one. */
function getLastAccess(fd: Descriptor, ip: string): string | undefined {
  fd.flock(LOCK_SH); // others may read now, but not write
  try {
    return readRecords(fd).find(([fileip]) => fileip === ip)?.[1];
  } finally {
    fd.flock(LOCK_UN); // whatever happened
  }
}

/** Notes that there is an access from an address now. */
function writeLastAccess(fd: Descriptor, ip: string): void {
  // One lock for reading and writing: between a shared and an exclusive lock, another child could
  // write, and its data would be lost.
  fd.flock(LOCK_EX);
  try {
    const records = readRecords(fd).filter(([fileip]) => fileip !== ip);
    records.push([ip, asctime()]);
    let data = new TextEncoder().encode(records.map((record) => `${record.join("|")}\n`).join(""));
    fd.lseek(0, SEEK_SET);
    fd.ftruncate(data.length);
    while (data.length > 0) data = data.subarray(fd.write(data));
  } finally {
    fd.flock(LOCK_UN); // whatever happened
  }
}

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
  // Not 1, as elsewhere: if many clients connect at the same time, the kernel drops those for which
  // the queue has no room, and a client that waits for the server's first message never notices.
  s.listen(1024);
} catch (error) { // EADDRINUSE: another program listens there
  console.error(`${(error as Error).message}: choose another port`);
  Deno.exit(1);
}

open("lastaccess.txt", O_RDWR | O_CREAT | O_TRUNC).close(); // starts empty

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
      const [ip, clientport] = clientsock.getpeername() as InetAddress;
      console.log(`Got connection from ('${ip}', ${clientport}), servicing with PID ${getpid()}`);
      const fd = open("lastaccess.txt", O_RDWR | O_CREAT); // an open file of its own
      const send = (text: string) => clientsock.sendall(new TextEncoder().encode(text));
      send(`Welcome, ${ip}.\n`);
      const last = getLastAccess(fd, ip);
      if (last !== undefined) send(`I last saw you at ${last}.\n`);
      else send("I've never seen you before.\n");
      writeLastAccess(fd, ip);
      send(`I have noted your connection at ${getLastAccess(fd, ip)}.\n`);
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
