/** Guest program: children without a runtime, and how they end. */
import { assert, assertEquals } from "@std/assert";
import { randomBytes } from "node:crypto";
import * as tine from "../../mod.ts";
import { readText } from "../../ffi/proc.ts";
import {
  bytes,
  check,
  codeOf,
  end,
  inChild,
  listenLocally,
  readAll,
  text,
  waitUntil,
} from "./guest.ts";

tine.becomeForkable({ signals: [] });

const folder = Deno.args[0]!;

await check("`fork()` creates a child that has the parent's heap", () => {
  const heap = Array.from({ length: 100_000 }, (_, i) => ({ i, text: `x${i}` }));
  const child = inChild(() => ({
    intact: heap.every(({ i, text }, at) => i === at && text === `x${at}`),
    pid: tine.getpid(),
    denoPid: Deno.pid,
    ppid: tine.getppid(),
  }));
  assert(child.pid !== tine.getpid());
  assertEquals(child, {
    intact: true,
    pid: child.pid,
    denoPid: child.pid,
    ppid: tine.getpid(),
  });
});

await check("`waitpid()` reports how a child exited", () => {
  for (const code of [0, 7, 255]) {
    const pid = tine.fork();
    if (pid === 0) tine._exit(code);
    const status = { kind: "exited", code, raw: code << 8 } as const;
    assertEquals(tine.waitpid(pid), { pid, status });
  }
  const pid = tine.fork();
  if (pid === 0) tine._exit(3);
  assertEquals(tine.wait(), { pid, status: { kind: "exited", code: 3, raw: 0x300 } });
  assertEquals(codeOf(() => tine.wait()), "ECHILD");
});

await check("`waitpid()` reports which signal ended a child", () => {
  for (const signal of [tine.SIGKILL, tine.SIGTERM, tine.SIGUSR1, tine.SIGUSR2, 34]) {
    const pid = tine.forkChild(() => tine.sleep(60) as 0);
    tine.kill(pid, signal);
    const status = { kind: "signaled", signal, coreDumped: false, raw: signal } as const;
    assertEquals(tine.waitpid(pid), { pid, status });
  }
});

await check("`waitpid()` reports that a child stopped and continued", () => {
  const pid = tine.forkChild(() => tine.sleep(60) as 0);
  tine.kill(pid, tine.SIGSTOP);
  assertEquals(tine.waitpid(pid, tine.WUNTRACED).status, {
    kind: "stopped",
    signal: tine.SIGSTOP,
    raw: tine.SIGSTOP << 8 | 0x7f,
  });
  tine.kill(pid, tine.SIGCONT);
  const { status } = tine.waitpid(pid, tine.WUNTRACED | tine.WCONTINUED);
  assertEquals(status, { kind: "continued", raw: 0xffff });
  tine.kill(pid, tine.SIGKILL);
  assertEquals(tine.waitpid(pid).status?.kind, "signaled");
});

await check("`waitpid()` with WNOHANG returns while the child runs", () => {
  const [readEnd, writeEnd] = tine.pipe();
  const pid = tine.forkChild(() => {
    writeEnd.close();
    readEnd.read(1);
  });
  assertEquals(tine.waitpid(pid, tine.WNOHANG), { pid: 0, status: undefined });
  assertEquals(tine.waitpid(-1, tine.WNOHANG).pid, 0);
  writeEnd.close();
  waitUntil(() => tine.waitpid(pid, tine.WNOHANG).pid === pid, "the child");
  readEnd.close();
  assertEquals(codeOf(() => tine.waitpid(pid, tine.WNOHANG)), "ECHILD");
});

await check("`fork()` gives 20 children their heaps while it grows and shrinks", () => {
  const kept: number[][] = [];
  for (let round = 0; round < 20; round++) {
    kept.push(Array.from({ length: 5000 }, (_, i) => i + round));
    if (round % 3 === 2) kept.shift();
    const expected = kept.reduce((sum, list) => sum + list.length + list[99]!, 0);
    const seen = inChild(() => {
      const garbage = Array.from({ length: 10_000 }, (_, i) => ({ i }));
      return kept.reduce((sum, list) => sum + list.length + list[99]!, garbage.length);
    });
    assertEquals(seen, expected + 10_000);
  }
});

await check("random numbers differ between parent and children", () => {
  const draw = (): string[] => [
    crypto.randomUUID(),
    crypto.getRandomValues(new Uint8Array(16)).join(),
    randomBytes(16).toString("hex"),
    String(Math.random()),
    String(Math.random()),
  ];
  draw();
  const draws = [inChild(draw), inChild(draw), draw(), inChild(draw), draw()];
  assertEquals(new Set(draws.flat()).size, 25, draws.join("\n"));
});

await check("`mmap()` returns memory that children share", () => {
  const counter = new Int32Array(tine.mmap(8, tine.MAP_SHARED | tine.MAP_ANONYMOUS));
  const children = Array.from({ length: 4 }, () =>
    tine.forkChild(() => {
      for (let i = 0; i < 1000; i++) Atomics.add(counter, 1, 1);
      counter[0]! = tine.getpid();
    }));
  for (const pid of children) assertEquals(tine.waitpid(pid).status?.raw, 0);
  assertEquals(counter[1], 4000);
  assert(children.includes(counter[0]!));
});

await check("children have children", () => {
  const inner = inChild(() => [inChild(() => [tine.getpid(), tine.getppid()]), tine.getpid()]);
  const [[pid, ppid], child] = inner as [number[], number];
  assertEquals(ppid, child);
  assertEquals(new Set([pid, child, tine.getpid()]).size, 3);
});

await check("`prctl()` with PR_SET_PDEATHSIG makes a child end with its parent", () => {
  const [readEnd, writeEnd] = tine.pipe();
  const [readyEnd, readyWriteEnd] = tine.pipe();
  const pid = tine.forkChild(() => {
    tine.forkChild(() => {
      tine.prctl(tine.PR_SET_PDEATHSIG, tine.SIGKILL);
      readyWriteEnd.write(bytes("ready"));
      tine.sleep(60);
      writeEnd.write(bytes("survived"));
    });
    tine.sleep(60);
  });
  for (const fd of [writeEnd, readyWriteEnd]) fd.close();
  readyEnd.read(5);
  tine.kill(pid, tine.SIGKILL);
  tine.waitpid(pid);
  readyEnd.close();
  assertEquals(readAll(readEnd), "");
});

await check("`prctl()` with PR_SET_NO_NEW_PRIVS shows in the child's status", () => {
  const seen = inChild(() => {
    tine.prctl(tine.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return readText(`/proc/${tine.getpid()}/task/${tine.getpid()}/status`).match(
      /NoNewPrivs:\s*(\d)/,
    )![1];
  });
  assertEquals(seen, "1");
});

await check("`setrlimit()` limits the descriptors of a child", () => {
  const code = inChild(() => {
    tine.setrlimit(tine.RLIMIT_NOFILE, { ...tine.getrlimit(tine.RLIMIT_NOFILE), soft: 64 });
    return codeOf(() => {
      for (let i = 0; i < 64; i++) tine.pipe();
    });
  });
  assertEquals(code, "EMFILE");
});

await check("`setsid()` makes a child the leader of a session", () => {
  const [session, pid, again] = inChild(() => [
    tine.setsid(),
    tine.getpid(),
    codeOf(() => tine.setsid()),
  ]);
  assertEquals([session, again], [pid, "EPERM"]);
});

await check("a child accepts on the parent's listening socket", () => {
  using listener = listenLocally();
  const pid = tine.forkChild(() => {
    const [connection] = listener.accept();
    const request = connection.recv(100);
    connection.sendall(bytes(`${tine.getpid()}: ${text(request)}`));
    connection.close();
  });
  using client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  client.connect(listener.getsockname());
  client.sendall(bytes("ping"));
  assertEquals(text(client.recv(100)), `${pid}: ping`);
  assertEquals(client.recv(100).length, 0);
  assertEquals(tine.waitpid(pid).status?.raw, 0);
});

await check("`forkChild()` ends a child whose function throws", () => {
  const code = (child: () => number): unknown => tine.waitpid(tine.forkChild(child)).status;
  const thrown = code(() => {
    throw new Error("wanted by this check");
  });
  assertEquals(thrown, { kind: "exited", code: 1, raw: 0x100 });
  assertEquals(code(() => 42), { kind: "exited", code: 42, raw: 0x2a00 });
});

await check("`alarm()` ends a child that is busy", () => {
  const pid = tine.forkChild(() => {
    tine.alarm(1);
    for (const late = performance.now() + 30_000; performance.now() < late;);
  });
  assertEquals(tine.waitpid(pid).status, {
    kind: "signaled",
    signal: tine.SIGALRM,
    coreDumped: false,
    raw: tine.SIGALRM,
  });
});

await check("`execve()` runs another program in a child", () => {
  const [readEnd, writeEnd] = tine.pipe();
  const pid = tine.forkChild(() => {
    writeEnd.dup2(1);
    tine.execve("/bin/sh", ["sh", "-c", 'echo "$0 $1 $WORD"; exit 9', "a", "b c"], { WORD: "d" });
  });
  writeEnd.close();
  assertEquals(readAll(readEnd), "a b c d\n");
  assertEquals(tine.waitpid(pid).status, { kind: "exited", code: 9, raw: 0x900 });
  const codes = inChild(() => {
    tine.open(`${folder}/text`, tine.O_CREAT | tine.O_WRONLY, 0o777).close();
    return [`${folder}/text`, `${folder}/none`].map((path) =>
      codeOf(() => tine.execve(path, ["x"]))
    );
  });
  assertEquals(codes, ["ENOEXEC", "ENOENT"]);
});

await check("a child that returns to the event loop ends with an error", async () => {
  const pid = tine.fork();
  if (pid === 0) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    tine._exit(0);
  }
  assertEquals(tine.waitpid(pid).status, { kind: "exited", code: 1, raw: 0x100 });
});

end();
