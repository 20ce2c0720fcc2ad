import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { startFunction } from "./support.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A listening socket on a free port, and its address. */
function listening(family = tine.AF_INET, host = "127.0.0.1"): tine.Socket {
  const socket = new tine.Socket(family, tine.SOCK_STREAM);
  socket.bind([host, 0]);
  socket.listen(16);
  return socket;
}

/** Both ends of a connection. */
function connected(): [client: tine.Socket, server: tine.Socket] {
  using listener = listening();
  const client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  client.connect(listener.getsockname());
  return [client, listener.accept()[0]];
}

function failure(call: () => unknown): tine.SyscallError {
  return assertThrows(call, tine.SyscallError);
}

Deno.test("Socket transfers bytes over IPv4, and both ends agree on the socket pair", () => {
  using listener = listening();
  using client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  client.connect(listener.getsockname());
  const [connection, address] = listener.accept();
  using server = connection;
  assertEquals(address, client.getsockname());
  assertEquals(server.getpeername(), client.getsockname());
  assertEquals(client.getpeername(), server.getsockname());
  assertEquals(address[0], "127.0.0.1");
  const bytes = crypto.getRandomValues(new Uint8Array(1000));
  client.sendall(bytes);
  assertEquals(server.recv(1000, tine.MSG_WAITALL), bytes);
  client.shutdown(tine.SHUT_WR);
  assertEquals(server.recv(1000).length, 0);
});

Deno.test("what sends bytes says what to do with a string", () => {
  const [client, server] = connected();
  using _client = client;
  using _server = server;
  const text = "text" as unknown as Uint8Array<ArrayBuffer>;
  const how = "a string: expected bytes, such as new TextEncoder().encode(text)";
  assertThrows(() => client.send(text), TypeError, `Cannot send ${how}`);
  assertThrows(() => client.sendall(text), TypeError, `Cannot send ${how}`);
  assertThrows(() => client.write(text), TypeError, `Cannot write ${how}`);
});

Deno.test("Socket transfers bytes over IPv6", () => {
  using listener = listening(tine.AF_INET6, "::1");
  using client = new tine.Socket(tine.AF_INET6, tine.SOCK_STREAM);
  client.connect(listener.getsockname());
  const [connection, address] = listener.accept();
  using server = connection;
  assertEquals(address, client.getsockname());
  assertEquals(address.slice(0, 1), ["::1"]);
  assertEquals(address.length, 4);
  server.sendall(encoder.encode("six"));
  assertEquals(decoder.decode(client.recv(10)), "six");
});

Deno.test("Socket transfers bytes over a UNIX socket, by path and by abstract name", () => {
  const folder = Deno.makeTempDirSync();
  try {
    for (const path of [`${folder}/socket`, `\0tine-${crypto.randomUUID()}`]) {
      using listener = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
      listener.bind(path);
      listener.listen(1);
      assertEquals(listener.getsockname(), path);
      using client = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
      client.connect(path);
      const [connection, address] = listener.accept();
      using server = connection;
      assertEquals(address, "");
      client.sendall(encoder.encode("unix"));
      assertEquals(decoder.decode(server.recv(10)), "unix");
      assertEquals(server.family, tine.AF_UNIX);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("Socket resolves a host name, and reports one that it cannot resolve", () => {
  using listener = listening();
  using client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  client.connect(["localhost", Number(listener.getsockname()[1])]);
  assertEquals(client.getpeername(), listener.getsockname());
  using other = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  assertThrows(
    () => other.connect(["no-such-host.invalid", 80]),
    Error,
    "Cannot connect no-such-host.invalid:80: the host cannot be resolved",
  );
});

Deno.test("formatAddress() formats addresses as in URLs", () => {
  assertEquals(tine.formatAddress(["127.0.0.1", 80]), "127.0.0.1:80");
  assertEquals(tine.formatAddress(["", 80]), "*:80");
  assertEquals(tine.formatAddress(["::1", 80]), "[::1]:80");
  assertEquals(tine.formatAddress("/run/app.sock"), "/run/app.sock");
  assertEquals(tine.formatAddress("\0name"), "@name");
});

Deno.test("getsockname() formats IPv6 addresses as in RFC 5952", () => {
  // The kernel is asked to repeat addresses of the loopback's own forms only; mapped ones too.
  using mapped = new tine.Socket(tine.AF_INET6, tine.SOCK_STREAM);
  mapped.setsockopt(tine.IPPROTO_IPV6, tine.IPV6_V6ONLY, 0);
  mapped.bind(["::ffff:127.0.0.1", 0]);
  assertEquals(mapped.getsockname()[0], "::ffff:127.0.0.1");
  using any = new tine.Socket(tine.AF_INET6, tine.SOCK_STREAM);
  any.bind(["", 0]);
  assertEquals(any.getsockname()[0], "::");
});

Deno.test("setsockopt() and getsockopt() agree", () => {
  using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  for (const option of [tine.SO_REUSEADDR, tine.SO_REUSEPORT, tine.SO_KEEPALIVE]) {
    assertEquals(socket.getsockopt(tine.SOL_SOCKET, option), 0);
    socket.setsockopt(tine.SOL_SOCKET, option, 1);
    assertEquals(socket.getsockopt(tine.SOL_SOCKET, option), 1);
  }
  socket.setsockopt(tine.IPPROTO_TCP, tine.TCP_NODELAY, 1);
  assertEquals(socket.getsockopt(tine.IPPROTO_TCP, tine.TCP_NODELAY), 1);
  for (const option of [tine.SO_RCVTIMEO, tine.SO_SNDTIMEO]) {
    socket.setsockopt(tine.SOL_SOCKET, option, 2.5);
    assertEquals(socket.getsockopt(tine.SOL_SOCKET, option), 2.5);
  }
  assertEquals(socket.getsockopt(tine.SOL_SOCKET, tine.SO_TYPE), tine.SOCK_STREAM);
  assertEquals(socket.getsockopt(tine.SOL_SOCKET, tine.SO_DOMAIN), tine.AF_INET);
});

Deno.test("socketpair() creates two connected ends, and each sees the other's close", () => {
  const [left, right] = tine.socketpair(tine.SOCK_STREAM);
  using ours = left;
  {
    using theirs = right;
    ours.sendall(encoder.encode("ping"));
    assertEquals(decoder.decode(theirs.recv(100)), "ping");
    theirs.sendall(encoder.encode("pong"));
    assertEquals(decoder.decode(ours.recv(100)), "pong");
    for (const fd of [ours.fileno(), theirs.fileno()]) {
      assertEquals(tine.fcntl(fd, tine.F_GETFD), tine.FD_CLOEXEC);
    }
  }
  assertEquals(ours.recv(100).length, 0);
  assertEquals(failure(() => ours.send(encoder.encode("x"))).code, "EPIPE");
});

Deno.test("socketpair() preserves message boundaries with SOCK_SEQPACKET", () => {
  const [left, right] = tine.socketpair(tine.SOCK_SEQPACKET);
  using ours = left;
  using theirs = right;
  for (const text of ["one", "two"]) ours.send(encoder.encode(text));
  assertEquals(decoder.decode(theirs.recv(100)), "one");
  assertEquals(decoder.decode(theirs.recv(100)), "two");
  assertEquals(failure(() => tine.socketpair(99)).code, "EINVAL");
});

Deno.test("SO_REUSEPORT lets two sockets listen on one port", () => {
  using first = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  using second = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  first.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEPORT, 1);
  second.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEPORT, 1);
  first.bind(["127.0.0.1", 0]);
  first.listen(1);
  second.bind(first.getsockname());
  second.listen(1);
  assertEquals(second.getsockname(), first.getsockname());
});

Deno.test("recv() and accept() fail with EAGAIN after SO_RCVTIMEO", () => {
  const [client, server] = connected();
  using _client = client;
  using receiving = server;
  receiving.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, 0.05);
  const error = failure(() => receiving.recv(1));
  assertEquals([error.syscall, error.code], ["recv", "EAGAIN"]);
  using listener = listening();
  listener.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, 0.05);
  assertEquals(failure(() => listener.accept()).code, "EAGAIN");
});

Deno.test("send() fails with EAGAIN after SO_SNDTIMEO when the other end does not read", () => {
  const [client, server] = connected();
  using _server = server;
  using sending = client;
  sending.setsockopt(tine.SOL_SOCKET, tine.SO_SNDTIMEO, 0.05);
  const error = failure(() => sending.sendall(new Uint8Array(64 << 20)));
  assertEquals([error.syscall, error.code], ["send", "EAGAIN"]);
});

Deno.test("recv() leaves the data with MSG_PEEK and does not wait with MSG_DONTWAIT", () => {
  const [client, server] = connected();
  using sending = client;
  using receiving = server;
  assertEquals(failure(() => receiving.recv(1, tine.MSG_DONTWAIT)).code, "EAGAIN");
  sending.sendall(encoder.encode("abc"));
  assertEquals(decoder.decode(receiving.recv(3, tine.MSG_PEEK)), "abc");
  assertEquals(decoder.decode(receiving.recv(3)), "abc");
});

Deno.test("send() fails with EPIPE and without a signal when the other end is closed", () => {
  const [client, server] = connected();
  using sending = client;
  server.close();
  const error = failure(() => {
    for (let i = 0; i < 100; i++) sending.sendall(new Uint8Array(65536));
  });
  assert(["EPIPE", "ECONNRESET"].includes(error.code), error.message);
});

Deno.test("send() does not raise SIGPIPE when write() does", async () => {
  await using program = startFunction(() => {
    tine.signal(tine.SIGPIPE, tine.SIG_DFL); // Deno ignores it
    const [ours, theirs] = tine.socketpair(tine.SOCK_STREAM);
    theirs.close();
    for (const send of [() => ours.send(new Uint8Array(1)), () => ours.write(new Uint8Array(1))]) {
      try {
        send();
      } catch (error) {
        console.log((error as tine.SyscallError).code);
      }
    }
  });
  assertEquals(await program.ended(), { code: 141, signal: "SIGPIPE" });
  assertEquals(program.stdout, "EPIPE\n");
});

Deno.test("SyscallError reports what failed, on what, and why", () => {
  using taken = listening();
  using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  const error = failure(() => socket.bind(taken.getsockname()));
  assertEquals([error.name, error.syscall, error.errno, error.code], [
    "SyscallError",
    "bind",
    98,
    "EADDRINUSE",
  ]);
  assertEquals(
    error.message,
    `Cannot bind 127.0.0.1:${taken.getsockname()[1]}: EADDRINUSE (Address already in use)`,
  );
  const port = Number(taken.getsockname()[1]);
  taken.close();
  const refused = failure(() => socket.connect(["127.0.0.1", port]));
  assertEquals(
    refused.message,
    `Cannot connect 127.0.0.1:${port}: ECONNREFUSED (Connection refused)`,
  );
});

Deno.test("Socket rejects invalid input before the kernel sees it", () => {
  using inet = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  using unix = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
  for (const port of [70000, -1, 1.5, NaN]) {
    assertThrows(
      () => inet.bind(["127.0.0.1", port]),
      RangeError,
      `Cannot bind 127.0.0.1:${port}: expected a port from 0 to 65535`,
    );
  }
  assertThrows(
    () => inet.bind("/tmp/x"),
    TypeError,
    "expected [host, port], the address of an internet socket",
  );
  assertThrows(
    () => unix.bind(["127.0.0.1", 1]),
    TypeError,
    "expected a path, the address of a UNIX socket",
  );
  assertThrows(
    () => unix.bind("/" + "x".repeat(107)),
    RangeError,
    "the path has 108 bytes, but that of a UNIX socket can have at most 107",
  );
  assertThrows(() => unix.bind("a\0b"), TypeError, "a path cannot contain NUL");
  assertThrows(() => inet.bind(["a\0b", 1]), TypeError, "NUL");
  assertThrows(() => inet.listen(-1), RangeError, "Cannot listen with backlog -1");
  assertThrows(() => inet.recv(0), RangeError, "Cannot recv 0 bytes");
  assertThrows(() => inet.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEADDR, 0.5), RangeError);
  assertThrows(() => inet.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, -1), RangeError);
  assertThrows(() => new tine.Socket(99, tine.SOCK_STREAM), RangeError, "family 99");
});

Deno.test("bind() accepts a path of exactly 107 bytes", () => {
  const folder = Deno.makeTempDirSync({ dir: "/tmp", prefix: "t" });
  const path = `${folder}/`.padEnd(107, "x");
  try {
    using socket = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
    socket.bind(path);
    assertEquals(socket.getsockname(), path);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a closed Socket fails with EBADF and does not use its old descriptor number", () => {
  const socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  const number = socket.fileno();
  socket.close();
  // The lowest free number goes to the next file.
  const taken = tine.open("/dev/null", tine.O_RDWR | tine.O_CLOEXEC);
  try {
    assertEquals(taken.fileno(), number);
    socket.close();
    socket[Symbol.dispose]();
    taken.fcntl(tine.F_GETFD);
    assertEquals(socket.fileno(), -1);
    const calls: (() => unknown)[] = [
      () => socket.bind(["127.0.0.1", 0]),
      () => socket.listen(1),
      () => socket.accept(),
      () => socket.connect(["127.0.0.1", 1]),
      () => socket.recv(1),
      () => socket.send(new Uint8Array(1)),
      () => socket.sendall(new Uint8Array(1)),
      () => socket.shutdown(tine.SHUT_RDWR),
      () => socket.getsockname(),
      () => socket.getpeername(),
      () => socket.getsockopt(tine.SOL_SOCKET, tine.SO_ERROR),
      () => socket.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEADDR, 1),
    ];
    for (const call of calls) {
      const error = failure(call);
      assertEquals(error.code, "EBADF");
      assertMatch(error.message, /^Cannot \w+ on a closed socket: EBADF/);
    }
  } finally {
    taken.close();
  }
});

Deno.test("fromDescriptor() takes ownership of an open socket", () => {
  const [client, server] = connected();
  using sending = client;
  const number = tine.fcntl(server.fileno(), tine.F_DUPFD_CLOEXEC, 0);
  server.close();
  using receiving = tine.Socket.fromDescriptor(number);
  assertEquals(receiving.fileno(), number);
  assertEquals(receiving.family, tine.AF_INET);
  sending.sendall(encoder.encode("x"));
  assertEquals(decoder.decode(receiving.recv(1)), "x");
  assertEquals(failure(() => tine.Socket.fromDescriptor(0x7000)).code, "EBADF");
  const file = tine.open("/dev/null", tine.O_RDONLY | tine.O_CLOEXEC);
  assertEquals(failure(() => tine.Socket.fromDescriptor(file.fileno())).code, "ENOTSOCK");
  file.close();
});

Deno.test("the calls by descriptor number do the same, and leave the socket to its owner", () => {
  const [client, server] = connected();
  using sending = client;
  using receiving = server;
  const fd = client.fileno();
  assertEquals(tine.getsockname(fd), client.getsockname());
  assertEquals(tine.getpeername(fd), server.getsockname());
  assertEquals(tine.getsockopt(fd, tine.SOL_SOCKET, tine.SO_TYPE), tine.SOCK_STREAM);
  tine.setsockopt(fd, tine.SOL_SOCKET, tine.SO_KEEPALIVE, 1);
  tine.setsockopt(fd, tine.SOL_SOCKET, tine.SO_SNDTIMEO, 2.5);
  assertEquals(sending.getsockopt(tine.SOL_SOCKET, tine.SO_KEEPALIVE), 1);
  assertEquals(tine.getsockopt(fd, tine.SOL_SOCKET, tine.SO_SNDTIMEO), 2.5);
  assertEquals(tine.send(fd, encoder.encode("by number")), 9);
  assertEquals(decoder.decode(receiving.recv(100)), "by number");
  tine.shutdown(fd, tine.SHUT_WR);
  assertEquals(receiving.recv(100).length, 0);
  assertEquals(failure(() => tine.send(fd, new Uint8Array(1))).code, "EPIPE");
  receiving.sendall(encoder.encode("still open"));
  assertEquals(decoder.decode(sending.recv(100)), "still open");
});

Deno.test("the calls by descriptor number report which descriptor is not a socket", () => {
  const file = tine.open("/dev/null", tine.O_RDWR | tine.O_CLOEXEC);
  const calls: Record<string, (fd: number) => unknown> = {
    "getsockname descriptor": (fd) => tine.getsockname(fd),
    "getpeername descriptor": (fd) => tine.getpeername(fd),
    "getsockopt option 3 of descriptor": (fd) => tine.getsockopt(fd, tine.SOL_SOCKET, tine.SO_TYPE),
    "setsockopt option 2 of descriptor": (fd) =>
      tine.setsockopt(fd, tine.SOL_SOCKET, tine.SO_REUSEADDR, 1),
    "send on descriptor": (fd) => tine.send(fd, new Uint8Array(1)),
    "shutdown descriptor": (fd) => tine.shutdown(fd, tine.SHUT_RDWR),
  };
  for (const [start, call] of Object.entries(calls)) {
    const error = failure(() => call(file.fileno()));
    assertEquals(error.code, "ENOTSOCK");
    assert(error.message.startsWith(`Cannot ${start} ${file.fileno()}`), error.message);
    for (const fd of [-1, 1.5, NaN]) assertThrows(() => call(fd), RangeError);
  }
  file.close();
});

Deno.test("accept() returns descriptors that programs started later do not inherit", () => {
  const [client, server] = connected();
  for (const socket of [client, server]) {
    assertEquals(tine.fcntl(socket.fileno(), tine.F_GETFD), tine.FD_CLOEXEC);
    socket.close();
  }
});

Deno.test("socket() creates a socket of another family, which is read and written like a file", () => {
  using netlink = tine.socket(tine.AF_NETLINK, tine.SOCK_DGRAM); // of NETLINK_ROUTE
  assertEquals(tine.fcntl(netlink.fileno(), tine.F_GETFD), tine.FD_CLOEXEC);
  // RTM_GETLINK of the interface 1, rtnetlink(7)
  const request = new Uint8Array(32);
  new Uint16Array(request.buffer).set([32, 0, 18, 1, 7]);
  request[20] = 1;
  assertEquals(netlink.write(request), 32);
  const answer = netlink.read(8192);
  assertEquals([...new Uint16Array(answer.buffer, 4, 1)], [16]); // RTM_NEWLINK
  assertEquals(answer[8], 7); // the sequence number
  assertEquals(failure(() => tine.socket(12345, tine.SOCK_DGRAM)).code, "EAFNOSUPPORT");
});
