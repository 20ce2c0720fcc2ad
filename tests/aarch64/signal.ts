/**
 * Guest program: handlers at interruption points. It is started with SIGCHLD, SIGUSR1 and SIGALRM
 * blocked, so that it can fork from its start.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as tine from "../../mod.ts";
import { SIG_DFL, SIG_IGN, SIGALRM, SIGCHLD, SIGUSR1 } from "../../mod.ts";
import { withProgramMask } from "../../ffi/program_mask.ts";
import { blockedSignals, threads } from "../../ffi/runtime/threads.ts";
import {
  bytes,
  check,
  codeOf,
  connectTo,
  end,
  inChild,
  listenLocally,
  waitUntil,
} from "./guest.ts";

// Under emulation the program cannot run again: the kernel refuses to execute it.
tine.becomeForkable({ signals: [SIGCHLD, SIGUSR1, SIGALRM] });

await check("`becomeForkable()` returns immediately when all threads block the signals", () => {
  assertEquals(tine.isForkable(), true);
  for (const { tid, name } of threads()) {
    const missing = new Set([SIGCHLD, SIGUSR1, SIGALRM]).difference(blockedSignals(tid));
    assertEquals([...missing], [], name);
  }
  tine.becomeForkable();
});

await check("`signal()` returns the previous action", () => {
  const handler = (): void => {};
  const actions: tine.SignalAction[] = [SIG_IGN, handler, SIG_DFL, SIG_DFL];
  const seen = actions.map((action) => tine.signal(SIGUSR1, action));
  assertEquals(seen, [SIG_DFL, SIG_IGN, handler, SIG_DFL]);
  assertThrows(() => tine.signal(tine.SIGUSR2, handler), Error, "SIGUSR2");
  assertEquals(codeOf(() => tine.signal(tine.SIGKILL, SIG_IGN)), "EINVAL");
});

await check("`accept()`, `recv()`, `poll()` and `pause()` fail with EINTR after a handler", () => {
  const seen: number[] = [];
  tine.signal(SIGCHLD, (signum) => {
    seen.push(signum, tine.waitpid(-1, tine.WNOHANG).pid);
  });
  using listener = listenLocally();
  const [client, server] = connectTo(listener);
  const calls = [
    () => listener.accept(),
    () => server.recv(1),
    () => tine.poll([{ fd: server.fileno(), events: tine.POLLIN }]),
    () => tine.pause(),
    () => tine.nanosleep(60),
  ];
  for (const call of calls) {
    const pid = tine.forkChild(() => tine.sleep(0.1) as 0);
    assertEquals(codeOf(call), "EINTR");
    assertEquals(seen.splice(0), [SIGCHLD, pid]);
  }
  // The interrupted call works afterwards.
  client.sendall(bytes("x"));
  assertEquals(server.recv(9).length, 1);
  client.close();
  server.close();
});

await check("a handler waits for an interruption point", () => {
  let runs = 0;
  tine.signal(SIGUSR1, () => {
    runs++;
  });
  tine.kill(tine.getpid(), SIGUSR1);
  tine.kill(tine.getpid(), SIGUSR1);
  assertEquals(runs, 0);
  assert(tine.sleep(60) > 50);
  assertEquals(runs, 1); // signals of one kind do not queue
  const before = tine.sigprocmask(tine.SIG_BLOCK, [SIGUSR1]);
  tine.kill(tine.getpid(), SIGUSR1);
  assertEquals(tine.sleep(0.02), 0);
  assertEquals(runs, 1);
  tine.sigprocmask(tine.SIG_SETMASK, before);
  assertEquals(codeOf(() => tine.poll([], 0)), "EINTR");
  assertEquals(runs, 2);
  tine.signal(SIGUSR1, SIG_DFL);
});

await check("a signal that arrives while the program's own mask is in use stays pending", () => {
  let runs = 0;
  tine.signal(SIGUSR1, () => {
    runs++;
  });
  const blocked = withProgramMask(() => {
    tine.kill(tine.getpid(), SIGUSR1);
    tine.kill(tine.getpid(), SIGUSR1);
    return [...blockedSignals(tine.getpid())];
  });
  assertEquals([blocked, runs], [[], 0]);
  assert(tine.sleep(60) > 50);
  assertEquals(runs, 1);
  tine.signal(SIGUSR1, SIG_DFL);
});

await check("no handler runs inside another", () => {
  const seen: string[] = [];
  tine.signal(SIGALRM, () => {
    seen.push("SIGALRM");
  });
  tine.signal(SIGUSR1, () => {
    tine.kill(tine.getpid(), SIGALRM);
    seen.push("SIGUSR1");
  });
  tine.kill(tine.getpid(), SIGUSR1);
  // The second one runs at the same interruption point if the emulator delivers it in time.
  while (seen.length < 2) assertEquals(codeOf(() => tine.poll([], 5000)), "EINTR");
  assertEquals(seen, ["SIGUSR1", "SIGALRM"]);
  for (const signum of [SIGALRM, SIGUSR1]) tine.signal(signum, SIG_DFL);
});

await check("an interruption point throws what the handler throws", () => {
  tine.signal(SIGALRM, () => {
    throw new TypeError("from the handler");
  });
  tine.alarm(1);
  assertThrows(() => tine.pause(), TypeError, "from the handler");
  tine.signal(SIGALRM, SIG_DFL);
});

await check("a handler reaps 20 children", () => {
  const children = new Set<number>();
  const reaped = new Set<number>();
  tine.signal(SIGCHLD, () => {
    try {
      for (let pid; (pid = tine.waitpid(-1, tine.WNOHANG).pid) !== 0;) reaped.add(pid);
    } catch (error) {
      if (!(error instanceof tine.SyscallError && error.code === "ECHILD")) throw error;
    }
  });
  for (let i = 0; i < 20; i++) children.add(tine.forkChild(() => i));
  waitUntil(() => reaped.size === 20, "20 children");
  assertEquals(reaped, children);
  assertEquals(codeOf(() => tine.wait()), "ECHILD");
});

await check("`waitpid()` for one child is interrupted by the end of another", () => {
  // Pending because of a child that was reaped while the handler ran.
  while (codeOf(() => tine.poll([], 0)) === "EINTR");
  let runs = 0;
  tine.signal(SIGCHLD, () => {
    runs++;
  });
  const first = tine.forkChild(() => tine.sleep(60) as 0);
  const second = tine.forkChild(() => tine.sleep(0.1) as 0);
  assertEquals(codeOf(() => tine.waitpid(first)), "EINTR");
  assertEquals([runs, tine.waitpid(second).pid], [1, second]);
  tine.kill(first, tine.SIGKILL);
  assertEquals(tine.waitpid(first).status?.kind, "signaled");
});

await check("`signal()` with SIG_IGN leaves no zombies", () => {
  tine.signal(SIGCHLD, SIG_IGN);
  const pid = tine.forkChild(() => {});
  assertEquals(codeOf(() => tine.waitpid(pid)), "ECHILD");
  tine.signal(SIGCHLD, SIG_DFL);
});

await check("a child keeps handlers and blocks nothing else", () => {
  tine.signal(SIGUSR1, () => {});
  const [blocked, code] = inChild(() => {
    const blocked = [...blockedSignals(tine.getpid())];
    tine.kill(tine.getpid(), SIGUSR1);
    return [blocked, codeOf(() => tine.pause())];
  });
  assertEquals([blocked, code], [[SIGUSR1], "EINTR"]);
  tine.signal(SIGUSR1, SIG_DFL);
  const pid = tine.forkChild(() => {
    tine.kill(tine.getpid(), SIGUSR1);
  });
  assertEquals(tine.waitpid(pid).status?.raw, SIGUSR1);
});

end();
