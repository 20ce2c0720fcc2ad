/** Guest program: the constants and struct layouts of calls that need no child. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as tine from "../../mod.ts";
import { directoryFlag } from "../../ffi/descriptor.ts";
import { readNumbers, readText } from "../../ffi/proc.ts";
import { bytes, check, codeOf, connectTo, end, listenLocally, text } from "./guest.ts";

const { AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET } = tine;
const folder = Deno.args[0]!;

await check("`setsockopt()` sets what `getsockopt()` reads", () => {
  using socket = new tine.Socket(AF_INET, SOCK_STREAM);
  const seen = [
    [SOL_SOCKET, tine.SO_REUSEADDR, 1],
    [SOL_SOCKET, tine.SO_REUSEPORT, 1],
    [SOL_SOCKET, tine.SO_KEEPALIVE, 1],
    [tine.IPPROTO_TCP, tine.TCP_NODELAY, 1],
  ].map(([level, option, value]) => {
    const before = socket.getsockopt(level!, option!);
    socket.setsockopt(level!, option!, value!);
    return [before, socket.getsockopt(level!, option!)];
  });
  assertEquals(seen, [[0, 1], [0, 1], [0, 1], [0, 1]]);
  socket.setsockopt(SOL_SOCKET, tine.SO_RCVBUF, 8192);
  assertEquals(socket.getsockopt(SOL_SOCKET, tine.SO_RCVBUF), 16384); // doubled, socket(7)
  socket.setsockopt(SOL_SOCKET, tine.SO_SNDBUF, 16384);
  assertEquals(socket.getsockopt(SOL_SOCKET, tine.SO_SNDBUF), 32768);
});

await check("`getsockopt()` reads what a socket is", () => {
  using socket = new tine.Socket(AF_UNIX, SOCK_DGRAM);
  using listener = listenLocally();
  const read = (of: tine.Socket): number[] =>
    [tine.SO_DOMAIN, tine.SO_TYPE, tine.SO_ACCEPTCONN, tine.SO_ERROR].map((option) =>
      of.getsockopt(SOL_SOCKET, option)
    );
  assertEquals(read(socket), [AF_UNIX, SOCK_DGRAM, 0, 0]);
  assertEquals(read(listener), [AF_INET, SOCK_STREAM, 1, 0]);
});

await check("`setsockopt()` accepts fractional seconds for SO_RCVTIMEO and SO_SNDTIMEO", () => {
  using listener = listenLocally();
  const [client, server] = connectTo(listener);
  client.setsockopt(SOL_SOCKET, tine.SO_RCVTIMEO, 3.5);
  client.setsockopt(SOL_SOCKET, tine.SO_SNDTIMEO, 0.5);
  assertEquals(client.getsockopt(SOL_SOCKET, tine.SO_RCVTIMEO), 3.5);
  assertEquals(client.getsockopt(SOL_SOCKET, tine.SO_SNDTIMEO), 0.5);
  client.setsockopt(SOL_SOCKET, tine.SO_RCVTIMEO, 0.2);
  const start = performance.now();
  assertEquals(codeOf(() => client.recv(1)), "EAGAIN");
  assert(performance.now() - start >= 190, "recv() came back too early");
  listener.setsockopt(SOL_SOCKET, tine.SO_RCVTIMEO, 0.1);
  assertEquals(codeOf(() => listener.accept()), "EAGAIN");
  client.close();
  server.close();
});

await check("`Socket` transfers bytes over IPv4", () => {
  using listener = listenLocally();
  const [host, port] = listener.getsockname() as tine.InetAddress;
  assertEquals(host, "127.0.0.1");
  assert(port > 0);
  using client = new tine.Socket(AF_INET, SOCK_STREAM);
  client.connect(listener.getsockname());
  const [server, address] = listener.accept();
  assertEquals(address, client.getsockname());
  assertEquals(server.getpeername(), client.getsockname());
  assertEquals(client.getpeername(), server.getsockname());
  client.sendall(bytes("ping"));
  assertEquals(text(server.recv(9, tine.MSG_PEEK)), "ping");
  assertEquals(text(server.recv(4, tine.MSG_WAITALL)), "ping");
  assertEquals(codeOf(() => server.recv(9, tine.MSG_DONTWAIT)), "EAGAIN");
  server.sendall(bytes("pong"));
  server.shutdown(tine.SHUT_WR);
  assertEquals([text(client.recv(9)), client.recv(9).length], ["pong", 0]);
  server.close();
});

await check("`Socket` transfers bytes over IPv6", () => {
  if (!/ lo$/m.test(readOr("/proc/net/if_inet6", ""))) return; // no IPv6 on this machine
  using listener = new tine.Socket(AF_INET6, SOCK_STREAM);
  listener.setsockopt(tine.IPPROTO_IPV6, tine.IPV6_V6ONLY, 1);
  assertEquals(listener.getsockopt(tine.IPPROTO_IPV6, tine.IPV6_V6ONLY), 1);
  listener.bind(["::1", 0]);
  listener.listen(1);
  const [client, server] = connectTo(listener);
  const [host, port, flowinfo, scope] = server.getpeername() as tine.InetAddress;
  assertEquals([host, flowinfo, scope], ["::1", 0, 0]);
  assertEquals(port, client.getsockname()[1]);
  client.sendall(bytes("ping"));
  assertEquals(text(server.recv(9)), "ping");
  client.close();
  server.close();
});

await check("`Socket` transfers bytes over UNIX sockets", () => {
  for (const address of [`${folder}/socket`, `\0tine-${tine.getpid()}`]) {
    using listener = new tine.Socket(AF_UNIX, SOCK_STREAM);
    listener.bind(address);
    listener.listen(1);
    assertEquals(listener.getsockname(), address);
    const [client, server] = connectTo(listener);
    assertEquals([server.getpeername(), client.getpeername()], ["", address]);
    client.sendall(bytes("ping"));
    assertEquals(text(server.recv(9)), "ping");
    client.close();
    server.close();
  }
});

await check("`bind()` resolves names", () => {
  using socket = new tine.Socket(AF_INET, SOCK_STREAM);
  socket.bind(["localhost", 0]);
  assertEquals(socket.getsockname()[0], "127.0.0.1");
  const error = assertThrows(() => socket.bind(["::1", 0]), Error); // of the other family
  assert(/cannot be resolved \(\w/.test(error.message), error.message);
});

await check("`poll()` reports events", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  const both = [
    { fd: readEnd.fileno(), events: tine.POLLIN },
    { fd: writeEnd.fileno(), events: tine.POLLOUT },
  ];
  assertEquals(tine.poll(both, 0), [{ fd: writeEnd.fileno(), revents: tine.POLLOUT }]);
  writeEnd.write(bytes("x"));
  assertEquals(tine.poll(both.slice(0, 1)), [{ fd: readEnd.fileno(), revents: tine.POLLIN }]);
  writeEnd.close();
  assertEquals(tine.poll(both.slice(0, 1))[0]?.revents, tine.POLLIN | tine.POLLHUP);
  assertEquals(tine.poll(both.slice(1), 0)[0]?.revents, tine.POLLNVAL);
  readEnd.close();
  const start = performance.now();
  assertEquals(tine.poll([], 100), []);
  assertEquals(tine.ppoll([], 0.1), []);
  assert(performance.now() - start >= 195, "the calls came back too early");

  using listener = listenLocally();
  const [client, server] = connectTo(listener);
  client.shutdown(tine.SHUT_WR);
  const [{ revents } = { revents: 0 }] = tine.poll([{ fd: server.fileno(), events: 0x2001 }]);
  assertEquals(revents, tine.POLLIN | tine.POLLRDHUP);
  client.close();
  server.close();
});

await check("`open()` applies its flags", () => {
  const file = `${folder}/file`;
  const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY } = tine;
  tine.open(file, O_CREAT | O_EXCL | O_WRONLY, 0o600).close();
  assertEquals(codeOf(() => tine.open(file, O_CREAT | O_EXCL | O_WRONLY)), "EEXIST");
  for (const word of ["one ", "two"]) {
    const fd = tine.open(file, O_WRONLY | tine.O_APPEND);
    fd.write(bytes(word));
    assertEquals(fd.fcntl(tine.F_GETFL) & tine.O_APPEND, tine.O_APPEND);
    fd.close();
  }
  assertEquals(readText(file), "one two");
  tine.open(file, O_RDWR | tine.O_TRUNC).close();
  assertEquals(readText(file), "");
  // The number of this flag differs: that of the other architecture means O_DIRECT.
  assertEquals(codeOf(() => tine.open(file, O_RDONLY | directoryFlag())), "ENOTDIR");
  tine.open(folder, O_RDONLY | directoryFlag()).close();
});

await check("`open()` sets the given permissions", () => {
  const file = `${folder}/secret`;
  tine.open(file, tine.O_CREAT | tine.O_WRONLY, 0o400).close();
  if (tine.getuid() !== 0) {
    assertEquals(codeOf(() => tine.open(file, tine.O_RDWR)), "EACCES");
  }
  assertEquals(Deno.statSync(file).mode! & 0o777, 0o400);
});

await check("`fcntl()` and `dup2()` duplicate and change descriptors", () => {
  const [readEnd, writeEnd] = tine.pipe();
  assertEquals(readEnd.fcntl(tine.F_GETFD), 0);
  readEnd.fcntl(tine.F_SETFD, tine.FD_CLOEXEC);
  assertEquals(readEnd.fcntl(tine.F_GETFD), tine.FD_CLOEXEC);
  readEnd.fcntl(tine.F_SETFL, tine.O_NONBLOCK);
  assertEquals(readEnd.fcntl(tine.F_GETFL) & tine.O_NONBLOCK, tine.O_NONBLOCK);
  assertEquals(codeOf(() => readEnd.read(1)), "EAGAIN");
  const high = writeEnd.fcntl(tine.F_DUPFD, 700);
  assert(high >= 700);
  assertEquals(tine.fcntl(high, tine.F_GETFD), 0);
  const higher = writeEnd.fcntl(tine.F_DUPFD_CLOEXEC, 800);
  assertEquals(tine.fcntl(higher, tine.F_GETFD), tine.FD_CLOEXEC);
  assertEquals(writeEnd.dup2(higher), higher);
  tine.write(high, bytes("a"));
  tine.write(higher, bytes("b"));
  assertEquals(text(readEnd.read(9)), "ab");
  assertEquals(readEnd.isatty(), false);
  for (const fd of [high, higher]) tine.close(fd);
  for (const end of [readEnd, writeEnd]) end.close();
  const [other, end] = tine.pipe(tine.O_CLOEXEC | tine.O_NONBLOCK);
  assertEquals(other.fcntl(tine.F_GETFD), tine.FD_CLOEXEC);
  assertEquals(codeOf(() => other.read(1)), "EAGAIN");
  other.close();
  end.close();
});

await check("`flock()` locks out another open file", () => {
  const file = `${folder}/lock`;
  const first = tine.open(file, tine.O_CREAT | tine.O_RDWR);
  const second = tine.open(file, tine.O_RDWR);
  first.flock(tine.LOCK_SH);
  second.flock(tine.LOCK_SH | tine.LOCK_NB);
  assertEquals(codeOf(() => first.flock(tine.LOCK_EX | tine.LOCK_NB)), "EAGAIN");
  second.flock(tine.LOCK_UN);
  first.flock(tine.LOCK_EX | tine.LOCK_NB);
  first.close();
  second.flock(tine.LOCK_EX | tine.LOCK_NB);
  second.close();
});

await check("`lseek()` and `ftruncate()` go beyond 4 GiB", () => {
  const far = 5 * 2 ** 30;
  const fd = tine.open(`${folder}/sparse`, tine.O_CREAT | tine.O_RDWR);
  fd.ftruncate(far);
  assertEquals(fd.lseek(0, tine.SEEK_END), far);
  assertEquals(fd.lseek(-10, tine.SEEK_CUR), far - 10);
  assertEquals(fd.lseek(3, tine.SEEK_SET), 3);
  assertEquals(codeOf(() => fd.lseek(-1, tine.SEEK_SET)), "EINVAL");
  fd.ftruncate(7);
  assertEquals(fd.lseek(0, tine.SEEK_END), 7);
  fd.close();
});

await check("a folder of `/proc` is read through libc", () => {
  const [readEnd, writeEnd] = tine.pipe();
  const numbers = [readEnd.fileno(), writeEnd.fileno()];
  const open = readNumbers("/proc/self/fd");
  assert([0, 1, 2, ...numbers].every((fd) => open.includes(fd)), String(open));
  readEnd.close();
  writeEnd.close();
  assert(!readNumbers("/proc/self/fd").includes(numbers[1]!));
  assert(readNumbers("/proc/self/task").includes(tine.getpid()));
});

await check("`sigprocmask()` changes and reads the mask", () => {
  const { SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGUSR1, SIGUSR2 } = tine;
  const realTime = 40; // the emulator keeps 64 for itself, and blocks it for no guest
  const before = tine.sigprocmask(SIG_SETMASK, [SIGUSR1, realTime]);
  assertEquals(tine.sigprocmask(SIG_BLOCK, [SIGUSR2]), [SIGUSR1, realTime]);
  assertEquals(tine.sigprocmask(SIG_UNBLOCK, [realTime]), [SIGUSR1, SIGUSR2, realTime]);
  const blocked = BigInt("0x" + readText("/proc/thread-self/status").match(/SigBlk:\s*(\w+)/)![1]);
  for (const signum of [SIGUSR1, SIGUSR2]) {
    assertEquals(blocked >> BigInt(signum - 1) & 1n, 1n, tine.signalName(signum));
  }
  assertEquals(tine.sigprocmask(SIG_SETMASK, before), [SIGUSR1, SIGUSR2]);
});

await check("`setrlimit()` sets what `getrlimit()` reads", () => {
  for (const resource of [tine.RLIMIT_NOFILE, tine.RLIMIT_CORE, tine.RLIMIT_CPU]) {
    const before = tine.getrlimit(resource);
    const soft = Math.min(before.hard, 3333);
    tine.setrlimit(resource, { ...before, soft });
    assertEquals(tine.getrlimit(resource), { ...before, soft });
    tine.setrlimit(resource, before);
    assertEquals(tine.getrlimit(resource), before);
  }
  assertEquals(
    codeOf(() => tine.setrlimit(tine.RLIMIT_NOFILE, { soft: 20, hard: 10 })),
    "EINVAL",
  );
  const limits = readText("/proc/self/limits");
  const rows = [[tine.RLIMIT_NPROC, "Max processes"], [tine.RLIMIT_NOFILE, "Max open files"]];
  for (const [resource, row] of rows as [number, string][]) {
    const shown = limits.match(new RegExp(`^${row}\\s+(\\w+)`, "m"))![1];
    const { soft } = tine.getrlimit(resource);
    assertEquals(shown, soft === Infinity ? "unlimited" : String(soft));
  }
});

await check("`alarm()`, `sleep()` and `nanosleep()` measure time", () => {
  assertEquals(tine.alarm(1000), 0);
  assert([999, 1000].includes(tine.alarm(0)));
  const start = performance.now();
  tine.nanosleep(0.15);
  assertEquals(tine.sleep(0.15), 0);
  assert(performance.now() - start >= 295, "the calls came back too early");
});

await check("`mmap()` returns memory filled with zeros", () => {
  const memory = new Uint8Array(tine.mmap(100_000, tine.MAP_SHARED | tine.MAP_ANONYMOUS));
  assertEquals([memory.length, memory.some((byte) => byte !== 0)], [100_000, false]);
  memory.fill(255);
  const tooMuch = 2 ** 50;
  assertEquals(codeOf(() => tine.mmap(tooMuch, tine.MAP_SHARED | tine.MAP_ANONYMOUS)), "ENOMEM");
});

await check("failing calls report the kernel's reason", () => {
  using listener = listenLocally();
  using socket = new tine.Socket(AF_INET, SOCK_STREAM);
  const [client, server] = connectTo(listener);
  server.close();
  const freed = listenLocally();
  const nobody = freed.getsockname();
  freed.close();
  const [readEnd, writeEnd] = tine.pipe();
  const closed = readEnd.fileno();
  readEnd.close();
  const file = `${folder}/plain`;
  tine.open(file, tine.O_CREAT | tine.O_WRONLY).close();
  const codes = {
    ENOENT: () => tine.open(`${folder}/missing`, tine.O_RDONLY),
    ENOTDIR: () => tine.open(`${file}/below`, tine.O_RDONLY),
    EISDIR: () => tine.open(folder, tine.O_WRONLY),
    ENAMETOOLONG: () => tine.open("x".repeat(300), tine.O_RDONLY),
    EBADF: () => tine.close(closed),
    ESPIPE: () => writeEnd.lseek(0, tine.SEEK_CUR),
    EPIPE: () => writeEnd.write(bytes("x")),
    ENOTSOCK: () => tine.Socket.fromDescriptor(writeEnd.fileno()),
    EADDRINUSE: () => socket.bind(listener.getsockname()),
    EADDRNOTAVAIL: () => socket.bind(["192.0.2.1", 0]),
    ECONNREFUSED: () => socket.connect(nobody),
    ENOTCONN: () => listener.getpeername(),
    EISCONN: () => client.connect(listener.getsockname()),
    ENOPROTOOPT: () => socket.setsockopt(tine.IPPROTO_TCP, 9999, 1),
    EOPNOTSUPP: () => new tine.Socket(AF_UNIX, SOCK_DGRAM).listen(1),
    EINVAL: () => tine.prctl(tine.PR_SET_PDEATHSIG, 9999),
    ECHILD: () => tine.waitpid(-1),
    ESRCH: () => tine.kill(0x7fff_fffe, 0),
  };
  const seen = Object.entries(codes).map(([, call]) => codeOf(call));
  assertEquals(seen, Object.keys(codes));
  const error = assertThrows(() => tine.execve("/dev/null/x", ["x"]), tine.SyscallError);
  assertEquals([error.syscall, error.errno], ["execve", 20]);
  assert(/ENOTDIR \(Not a directory\)$/.test(error.message), error.message);
  writeEnd.close();
  client.close();
});

await check("`Socket.fromDescriptor()` takes ownership of an inherited socket", () => {
  using listener = listenLocally();
  const copy = tine.Socket.fromDescriptor(tine.fcntl(listener.fileno(), tine.F_DUPFD_CLOEXEC, 0));
  assertEquals(copy.family, AF_INET);
  assertEquals(copy.getsockname(), listener.getsockname());
  const [client, server] = connectTo(copy);
  client.close();
  assertEquals(server.recv(1).length, 0);
  server.close();
  copy.close();
});

end();

function readOr(path: string, other: string): string {
  try {
    return readText(path);
  } catch {
    return other;
  }
}
