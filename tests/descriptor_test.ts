import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { descriptorsOf, run } from "./support.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function failure(call: () => unknown): tine.SyscallError {
  return assertThrows(call, tine.SyscallError);
}

Deno.test("open(), write(), lseek(), read() and ftruncate() work on a file", () => {
  const path = Deno.makeTempFileSync();
  try {
    const fd = tine.open(path, tine.O_RDWR | tine.O_CLOEXEC);
    assertEquals(fd.write(encoder.encode("hello, world")), 12);
    assertEquals(fd.lseek(-5, tine.SEEK_END), 7);
    assertEquals(decoder.decode(fd.read(100)), "world");
    assertEquals(fd.read(100).length, 0);
    fd.ftruncate(5);
    assertEquals(fd.lseek(0, tine.SEEK_SET), 0);
    assertEquals(decoder.decode(fd.read(100)), "hello");
    const number = fd.fileno();
    fd.close();
    assertEquals(failure(() => tine.close(number)).code, "EBADF");
    assertEquals(Deno.readTextFileSync(path), "hello");
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("open() creates a file with its mode, and fails for an existing one with O_EXCL", () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/new`;
  try {
    const flags = tine.O_WRONLY | tine.O_CREAT | tine.O_EXCL | tine.O_CLOEXEC;
    tine.open(path, flags, 0o600).close();
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
    const error = failure(() => tine.open(path, flags));
    assertEquals(error.message, `Cannot open ${path}: EEXIST (File exists)`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("pipe() transfers bytes, and ends when its write end is closed", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC | tine.O_NONBLOCK);
  assertEquals(failure(() => readEnd.read(1)).code, "EAGAIN");
  writeEnd.write(encoder.encode("x"));
  assertEquals(decoder.decode(readEnd.read(10)), "x");
  writeEnd.close();
  assertEquals(readEnd.read(10).length, 0);
  readEnd.close();
});

Deno.test("dup2() makes a duplicate with the given number", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  const spare = writeEnd.fcntl(tine.F_DUPFD_CLOEXEC, 200);
  assertEquals(writeEnd.dup2(spare), spare);
  writeEnd.close();
  tine.write(spare, encoder.encode("y"));
  assertEquals(decoder.decode(readEnd.read(10)), "y");
  tine.close(spare);
  readEnd.close();
});

Deno.test("fcntl() reads and sets flags", () => {
  const [readEnd, writeEnd] = tine.pipe();
  assertEquals(readEnd.fcntl(tine.F_GETFD), 0);
  readEnd.fcntl(tine.F_SETFD, tine.FD_CLOEXEC);
  assertEquals(readEnd.fcntl(tine.F_GETFD), tine.FD_CLOEXEC);
  readEnd.fcntl(tine.F_SETFL, tine.O_NONBLOCK);
  assertEquals(readEnd.fcntl(tine.F_GETFL) & tine.O_NONBLOCK, tine.O_NONBLOCK);
  readEnd.close();
  writeEnd.close();
});

Deno.test("flock() locks exclusively, or for several when shared", () => {
  const path = Deno.makeTempFileSync();
  const open = () => tine.open(path, tine.O_RDWR | tine.O_CLOEXEC);
  const [first, second] = [open(), open()];
  try {
    first.flock(tine.LOCK_EX);
    for (const kind of [tine.LOCK_EX, tine.LOCK_SH]) {
      assertEquals(failure(() => second.flock(kind | tine.LOCK_NB)).code, "EAGAIN");
    }
    first.flock(tine.LOCK_SH);
    second.flock(tine.LOCK_SH | tine.LOCK_NB);
    first.flock(tine.LOCK_UN);
    second.flock(tine.LOCK_EX | tine.LOCK_NB);
  } finally {
    first.close();
    second.close();
    Deno.removeSync(path);
  }
});

Deno.test("isatty() distinguishes a pipe from a terminal", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  assertEquals(readEnd.isatty(), false);
  readEnd.close();
  writeEnd.close();
  const master = tine.open("/dev/ptmx", tine.O_RDWR | tine.O_CLOEXEC);
  assertEquals(master.isatty(), true);
  master.close();
});

Deno.test("poll() and ppoll() report which descriptors are ready", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  const [read, write] = [readEnd.fileno(), writeEnd.fileno()];
  const requests = [{ fd: read, events: tine.POLLIN }, { fd: write, events: tine.POLLOUT }];
  assertEquals(tine.poll(requests.slice(0, 1), 0), []);
  assertEquals(tine.poll(requests, 1000), [{ fd: write, revents: tine.POLLOUT }]);
  writeEnd.write(encoder.encode("x"));
  assertEquals(tine.ppoll(requests.slice(0, 1), 1), [{ fd: read, revents: tine.POLLIN }]);
  readEnd.read(1);
  writeEnd.close();
  assertEquals(tine.poll(requests.slice(0, 1)), [{ fd: read, revents: tine.POLLHUP }]);
  readEnd.close();
  assertEquals(tine.poll(requests.slice(0, 1)), [{ fd: read, revents: tine.POLLNVAL }]);
  assertThrows(() => tine.poll([], -1), RangeError);
});

Deno.test("memfd_create() creates a file in memory that mmap() maps and other processes can open", () => {
  const fd = tine.memfd_create("tine test");
  try {
    assertEquals(Deno.readLinkSync(`/proc/self/fd/${fd.fileno()}`), "/memfd:tine test (deleted)");
    assertEquals(fd.fcntl(tine.F_GETFD), tine.FD_CLOEXEC);
    fd.ftruncate(4096);
    const memory = new Uint8Array(tine.mmap(4096, tine.MAP_SHARED, fd.fileno()));
    memory.set(encoder.encode("from memory"), 10);
    fd.lseek(10, tine.SEEK_SET);
    assertEquals(decoder.decode(fd.read(11)), "from memory");
    const other = tine.open(`/proc/self/fd/${fd.fileno()}`, tine.O_RDWR | tine.O_CLOEXEC);
    other.write(encoder.encode("from file"));
    other.close();
    assertEquals(decoder.decode(memory.slice(0, 9)), "from file");
  } finally {
    fd.close();
  }
  assertEquals(failure(() => tine.memfd_create("x".repeat(250))).code, "EINVAL");
  assertEquals(failure(() => tine.mmap(4096, tine.MAP_SHARED, fd.fileno())).code, "EBADF");
});

Deno.test("a closed Descriptor fails with EBADF and does not use its old number", () => {
  const path = Deno.makeTempFileSync();
  Deno.writeTextFileSync(path, "theirs");
  const closed = tine.open("/dev/null", tine.O_RDWR | tine.O_CLOEXEC);
  const number = closed.fileno();
  closed.close();
  // The lowest free number goes to the next file.
  using taken = tine.open(path, tine.O_RDWR | tine.O_CLOEXEC);
  try {
    assertEquals(taken.fileno(), number);
    closed.close();
    closed[Symbol.dispose]();
    assertEquals(closed.fileno(), -1);
    const calls: (() => unknown)[] = [
      () => closed.read(1),
      () => closed.write(encoder.encode("ours")),
      () => closed.ftruncate(0),
      () => closed.lseek(1, tine.SEEK_SET),
      () => closed.fcntl(tine.F_SETFD, 0),
      () => closed.flock(tine.LOCK_EX),
      () => closed.isatty(),
      () => closed.dup2(number),
    ];
    for (const call of calls) {
      const error = failure(call);
      assertEquals(error.code, "EBADF");
      assertMatch(error.message, /^Cannot \w+ on a closed descriptor: EBADF/);
    }
    assertEquals(taken.fcntl(tine.F_GETFD), tine.FD_CLOEXEC);
    assertEquals(decoder.decode(taken.read(100)), "theirs");
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("new Descriptor() takes ownership of a number, and closes it at the end of its block", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  const number = writeEnd.fcntl(tine.F_DUPFD_CLOEXEC);
  const pipe = descriptorsOf(Deno.pid).get(writeEnd.fileno());
  writeEnd.close();
  {
    using copy = new tine.Descriptor(number);
    assertEquals(copy.fileno(), number);
    assertEquals(descriptorsOf(Deno.pid).get(number), pipe);
    copy.write(encoder.encode("copy"));
  }
  assertEquals(descriptorsOf(Deno.pid).get(number), undefined);
  assertEquals(decoder.decode(readEnd.read(100)), "copy");
  assertEquals(readEnd.read(100).length, 0);
  readEnd.close();
  for (const fd of [-1, 1.5, NaN, 2 ** 31]) {
    assertThrows(() => new tine.Descriptor(fd), RangeError, `Cannot own descriptor ${fd}`);
  }
});

Deno.test("a forked child closes its own copy of a Descriptor, and the parent's stays open", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
    const child = tine.forkChild(() => {
      readEnd.close();
      writeEnd.write(new TextEncoder().encode("from the child"));
      writeEnd.close();
    });
    tine.waitpid(child);
    writeEnd.write(new TextEncoder().encode(" and the parent"));
    console.log(new TextDecoder().decode(readEnd.read(100)));
  });
  assertEquals(output, "from the child and the parent\n");
});

Deno.test("a Socket is a Descriptor: the other end reads what it writes", () => {
  const [left, right] = tine.socketpair(tine.SOCK_STREAM);
  using ours = left;
  {
    using theirs = right;
    assert(theirs instanceof tine.Descriptor);
    theirs.write(encoder.encode("written"));
    assertEquals(decoder.decode(ours.read(100)), "written");
    theirs.fcntl(tine.F_SETFL, tine.O_NONBLOCK);
    assertEquals(failure(() => theirs.read(1)).code, "EAGAIN");
    assertEquals(failure(() => theirs.lseek(0, tine.SEEK_CUR)).code, "ESPIPE");
  }
  assertEquals(ours.read(1).length, 0);
  assertMatch(failure(() => right.write(encoder.encode("x"))).message, /on a closed socket: EBADF/);
});

Deno.test("descriptor calls reject an invalid descriptor number", () => {
  for (const fd of [-1, 1.5, NaN, 2 ** 31]) {
    assertThrows(() => tine.close(fd), RangeError, `Cannot close descriptor ${fd}`);
    assertThrows(() => tine.read(fd, 1), RangeError);
    assertThrows(() => tine.write(fd, new Uint8Array(1)), RangeError);
  }
  assertThrows(() => tine.read(0, 0), RangeError, "Cannot read 0 bytes");
  assertThrows(() => tine.open("a\0b", tine.O_RDONLY), TypeError, "NUL");
});
