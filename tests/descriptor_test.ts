import { assertEquals, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function failure(call: () => unknown): tine.SyscallError {
  return assertThrows(call, tine.SyscallError);
}

Deno.test("open(), write(), lseek(), read() and ftruncate() work on a file", () => {
  const path = Deno.makeTempFileSync();
  try {
    const fd = tine.open(path, tine.O_RDWR | tine.O_CLOEXEC);
    assertEquals(tine.write(fd, encoder.encode("hello, world")), 12);
    assertEquals(tine.lseek(fd, -5, tine.SEEK_END), 7);
    assertEquals(decoder.decode(tine.read(fd, 100)), "world");
    assertEquals(tine.read(fd, 100).length, 0);
    tine.ftruncate(fd, 5);
    assertEquals(tine.lseek(fd, 0, tine.SEEK_SET), 0);
    assertEquals(decoder.decode(tine.read(fd, 100)), "hello");
    tine.close(fd);
    assertEquals(failure(() => tine.close(fd)).code, "EBADF");
    assertEquals(Deno.readTextFileSync(path), "hello");
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("open() makes a file with its mode, and refuses a second one with O_EXCL", () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/new`;
  try {
    const flags = tine.O_WRONLY | tine.O_CREAT | tine.O_EXCL | tine.O_CLOEXEC;
    tine.close(tine.open(path, flags, 0o600));
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
    const error = failure(() => tine.open(path, flags));
    assertEquals(error.message, `Cannot open ${path}: EEXIST (File exists)`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("pipe() carries bytes and ends when its write end is closed", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC | tine.O_NONBLOCK);
  assertEquals(failure(() => tine.read(readEnd, 1)).code, "EAGAIN");
  tine.write(writeEnd, encoder.encode("x"));
  assertEquals(decoder.decode(tine.read(readEnd, 10)), "x");
  tine.close(writeEnd);
  assertEquals(tine.read(readEnd, 10).length, 0);
  tine.close(readEnd);
});

Deno.test("dup2() makes a duplicate under the number asked for", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  const spare = tine.fcntl(writeEnd, tine.F_DUPFD_CLOEXEC, 200);
  assertEquals(tine.dup2(writeEnd, spare), spare);
  tine.close(writeEnd);
  tine.write(spare, encoder.encode("y"));
  assertEquals(decoder.decode(tine.read(readEnd, 10)), "y");
  tine.close(spare);
  tine.close(readEnd);
});

Deno.test("fcntl() reads and sets flags", () => {
  const [readEnd, writeEnd] = tine.pipe();
  assertEquals(tine.fcntl(readEnd, tine.F_GETFD), 0);
  tine.fcntl(readEnd, tine.F_SETFD, tine.FD_CLOEXEC);
  assertEquals(tine.fcntl(readEnd, tine.F_GETFD), tine.FD_CLOEXEC);
  tine.fcntl(readEnd, tine.F_SETFL, tine.O_NONBLOCK);
  assertEquals(tine.fcntl(readEnd, tine.F_GETFL) & tine.O_NONBLOCK, tine.O_NONBLOCK);
  tine.close(readEnd);
  tine.close(writeEnd);
});

Deno.test("flock() lets one in exclusively, many when shared", () => {
  const path = Deno.makeTempFileSync();
  const open = () => tine.open(path, tine.O_RDWR | tine.O_CLOEXEC);
  const [first, second] = [open(), open()];
  try {
    tine.flock(first, tine.LOCK_EX);
    for (const kind of [tine.LOCK_EX, tine.LOCK_SH]) {
      assertEquals(failure(() => tine.flock(second, kind | tine.LOCK_NB)).code, "EAGAIN");
    }
    tine.flock(first, tine.LOCK_SH);
    tine.flock(second, tine.LOCK_SH | tine.LOCK_NB);
    tine.flock(first, tine.LOCK_UN);
    tine.flock(second, tine.LOCK_EX | tine.LOCK_NB);
  } finally {
    tine.close(first);
    tine.close(second);
    Deno.removeSync(path);
  }
});

Deno.test("isatty() tells a pipe from a terminal", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  assertEquals(tine.isatty(readEnd), false);
  tine.close(readEnd);
  tine.close(writeEnd);
  const master = tine.open("/dev/ptmx", tine.O_RDWR | tine.O_CLOEXEC);
  assertEquals(tine.isatty(master), true);
  tine.close(master);
});

Deno.test("poll() and ppoll() tell which descriptors are ready", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  const requests = [
    { fd: readEnd, events: tine.POLLIN },
    { fd: writeEnd, events: tine.POLLOUT },
  ];
  assertEquals(tine.poll(requests.slice(0, 1), 0), []);
  assertEquals(tine.poll(requests, 1000), [{ fd: writeEnd, revents: tine.POLLOUT }]);
  tine.write(writeEnd, encoder.encode("x"));
  assertEquals(tine.ppoll(requests.slice(0, 1), 1), [{ fd: readEnd, revents: tine.POLLIN }]);
  tine.read(readEnd, 1);
  tine.close(writeEnd);
  assertEquals(tine.poll(requests.slice(0, 1)), [{ fd: readEnd, revents: tine.POLLHUP }]);
  tine.close(readEnd);
  assertEquals(tine.poll(requests.slice(0, 1)), [{ fd: readEnd, revents: tine.POLLNVAL }]);
  assertThrows(() => tine.poll([], -1), RangeError);
});

Deno.test("memfd_create() makes a file in memory that mmap() maps and others can open", () => {
  const fd = tine.memfd_create("tine test");
  try {
    assertEquals(Deno.readLinkSync(`/proc/self/fd/${fd}`), "/memfd:tine test (deleted)");
    assertEquals(tine.fcntl(fd, tine.F_GETFD), tine.FD_CLOEXEC);
    tine.ftruncate(fd, 4096);
    const memory = new Uint8Array(tine.mmap(4096, tine.MAP_SHARED, fd));
    memory.set(encoder.encode("from memory"), 10);
    tine.lseek(fd, 10, tine.SEEK_SET);
    assertEquals(decoder.decode(tine.read(fd, 11)), "from memory");
    const other = tine.open(`/proc/self/fd/${fd}`, tine.O_RDWR | tine.O_CLOEXEC);
    tine.write(other, encoder.encode("from file"));
    tine.close(other);
    assertEquals(decoder.decode(memory.slice(0, 9)), "from file");
  } finally {
    tine.close(fd);
  }
  assertEquals(failure(() => tine.memfd_create("x".repeat(250))).code, "EINVAL");
  assertEquals(failure(() => tine.mmap(4096, tine.MAP_SHARED, fd)).code, "EBADF");
});

Deno.test("descriptor calls refuse what is no descriptor", () => {
  for (const fd of [-1, 1.5, NaN, 2 ** 31]) {
    assertThrows(() => tine.close(fd), RangeError, `Cannot close descriptor ${fd}`);
    assertThrows(() => tine.read(fd, 1), RangeError);
    assertThrows(() => tine.write(fd, new Uint8Array(1)), RangeError);
  }
  assertThrows(() => tine.read(0, 0), RangeError, "Cannot read 0 bytes");
  assertThrows(() => tine.open("a\0b", tine.O_RDONLY), TypeError, "NUL");
});
