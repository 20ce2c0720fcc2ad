import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { run, startFunction, until } from "./support.ts";

Deno.test("signal() runs the handler in each interruption point, which fails with EINTR", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
    let handled = 0;
    tine.signal(tine.SIGUSR1, () => handled++);
    const listener = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listener.bind(["127.0.0.1", 0]);
    listener.listen(0);
    const client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    client.connect(listener.getsockname());
    // With its backlog full, the kernel lets the next connection attempts wait.
    const queue = Array.from({ length: 3 }, () => new tine.Socket(tine.AF_INET, tine.SOCK_STREAM));
    const full = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    full.bind(["127.0.0.1", 0]);
    full.listen(0);
    const sleeper = tine.forkChild(() => void tine.sleep(60));
    const points: [string, () => unknown][] = [
      ["accept", () => {
        listener.accept();
        listener.accept();
      }],
      ["recv", () => client.recv(1)],
      ["poll", () => tine.poll([{ fd: client.fileno(), events: tine.POLLIN }])],
      ["connect", () => queue.forEach((socket) => socket.connect(full.getsockname()))],
      ["pause", () => tine.pause()],
      ["nanosleep", () => tine.nanosleep(60)],
      ["wait", () => tine.wait()],
      ["waitpid", () => tine.waitpid(sleeper)],
    ];
    const parent = tine.getpid();
    for (const [syscall, call] of points) {
      const before = handled;
      // Sent again and again: one may come before the call waits, and must not be lost either.
      const sender = tine.forkChild(() => {
        for (let i = 0; i < 200; i++) {
          tine.sleep(0.02);
          tine.kill(parent, tine.SIGUSR1);
        }
      });
      try {
        call();
        console.log(syscall, "returned");
      } catch (error) {
        if (!(error instanceof tine.SyscallError)) throw error;
        console.log(syscall, error.syscall, error.code, handled > before);
      }
      tine.kill(sender, tine.SIGKILL);
      for (;;) {
        try {
          tine.waitpid(sender);
          break;
        } catch { /* EINTR: its last signal */ }
      }
    }
    const end = tine.forkChild(() => tine.kill(parent, tine.SIGUSR1));
    console.log("sleep", tine.sleep(60) > 50);
    tine.waitpid(end);
    tine.kill(sleeper, tine.SIGKILL);
    tine.waitpid(sleeper);
  });
  const points = ["accept", "recv", "poll", "connect", "pause", "nanosleep", "wait", "waitpid"];
  assertEquals(output.trim().split("\n"), [
    ...points.map((name) => `${name} ${name} EINTR true`),
    "sleep true",
  ]);
});

Deno.test("a handler does not run outside interruption points", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGUSR1] });
    let handled = 0;
    tine.signal(tine.SIGUSR1, () => handled++);
    tine.kill(tine.getpid(), tine.SIGUSR1);
    for (let i = 0; i < 1e6; i++) Math.sqrt(i);
    const during = handled;
    const buffer = tine.open("/dev/null", tine.O_RDWR);
    buffer.write(new Uint8Array(1));
    buffer.close();
    const afterCalls = handled;
    tine.sleep(0);
    console.log(during, afterCalls, handled);
  });
  assertEquals(output, "0 0 1\n");
});

Deno.test("a pending signal is handled although the descriptor is ready", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGUSR1] });
    let handled = 0;
    tine.signal(tine.SIGUSR1, () => handled++);
    const [readEnd, writeEnd] = tine.pipe();
    writeEnd.write(new Uint8Array(1));
    tine.kill(tine.getpid(), tine.SIGUSR1);
    try {
      tine.poll([{ fd: readEnd.fileno(), events: tine.POLLIN }]);
    } catch (error) {
      console.log(String(error), handled);
    }
    console.log(tine.poll([{ fd: readEnd.fileno(), events: tine.POLLIN }]).length);
  });
  assertEquals(output, "SyscallError: Cannot poll: EINTR (Interrupted system call) 1\n1\n");
});

Deno.test("handlers never nest, and none is lost", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGUSR1, tine.SIGUSR2] });
    const log: string[] = [];
    const handler = (signum: number) => {
      log.push(`+${signum}`);
      // An interruption point inside a handler waits, but lets no other in.
      tine.sleep(0.01);
      tine.kill(tine.getpid(), tine.SIGUSR2);
      tine.sleep(0.01);
      log.push(`-${signum}`);
      if (log.length > 4) tine.signal(tine.SIGUSR2, tine.SIG_IGN);
    };
    tine.signal(tine.SIGUSR1, handler);
    tine.signal(tine.SIGUSR2, handler);
    tine.kill(tine.getpid(), tine.SIGUSR1);
    for (let i = 0; i < 5; i++) tine.sleep(0);
    console.log(log.join(" "));
  });
  assertEquals(output, "+10 -10 +12 -12 +12 -12\n");
});

Deno.test("an interruption point runs the handlers of all pending signals, each once", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGALRM, tine.SIGTERM, tine.SIGCHLD] });
    const ran: string[] = [];
    const note = (signum: number) => {
      ran.push(tine.signalName(signum));
      // The lowest one is there again, as that of an interval timer may be.
      if (ran.length < 100) tine.kill(tine.getpid(), tine.SIGALRM);
    };
    for (const signum of [tine.SIGALRM, tine.SIGTERM, tine.SIGCHLD]) tine.signal(signum, note);
    tine.kill(tine.getpid(), tine.SIGTERM);
    tine.kill(tine.getpid(), tine.SIGCHLD);
    tine.kill(tine.getpid(), tine.SIGALRM);
    try {
      tine.pause();
    } catch (error) {
      console.log((error as tine.SyscallError).code, ...ran);
    }
  });
  assertEquals(output, "EINTR SIGALRM SIGTERM SIGCHLD\n");
});

Deno.test("an exception of a handler is thrown by the interruption point", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGUSR1] });
    tine.signal(tine.SIGUSR1, () => {
      throw new RangeError("from the handler");
    });
    for (let i = 0; i < 2; i++) {
      tine.kill(tine.getpid(), tine.SIGUSR1);
      try {
        tine.pause();
      } catch (error) {
        console.log(String(error));
      }
    }
  });
  assertEquals(output, "RangeError: from the handler\n".repeat(2));
});

Deno.test("a handler survives garbage collections", async () => {
  const output = await run(
    () => {
      tine.becomeForkable({ signals: [tine.SIGUSR1] });
      let handled = 0;
      (() => tine.signal(tine.SIGUSR1, () => handled++))();
      const { gc } = globalThis as unknown as { gc(): void };
      for (let i = 0; i < 50; i++) {
        gc();
        tine.kill(tine.getpid(), tine.SIGUSR1);
        tine.sleep(0);
      }
      console.log(handled);
    },
    [],
    { flags: ["--allow-ffi", "--v8-flags=--expose-gc"] },
  );
  assertEquals(output, "50\n");
});

Deno.test("signal() returns the previous action, and SIG_IGN and SIG_DFL take effect", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGUSR1] });
    const handler = () => console.log("handled");
    const show = (action: tine.SignalAction) =>
      console.log(action === handler ? "handler" : String(action));
    show(tine.signal(tine.SIGUSR1, handler));
    show(tine.signal(tine.SIGUSR1, tine.SIG_IGN));
    tine.kill(tine.getpid(), tine.SIGUSR1);
    tine.sleep(0);
    show(tine.signal(tine.SIGUSR1, handler));
    show(tine.signal(tine.SIGUSR1, tine.SIG_DFL));
    tine.signal(tine.SIGTERM, tine.SIG_IGN); // not named to becomeForkable(): no handler, so no danger
    tine.kill(tine.getpid(), tine.SIGTERM);
    const child = tine.forkChild(() => {
      tine.kill(tine.getpid(), tine.SIGUSR1);
      tine.sleep(1);
    });
    console.log(JSON.stringify(tine.waitpid(child).status));
  });
  assertEquals(output.trim().split("\n"), [
    "Symbol(SIG_DFL)",
    "handler",
    "Symbol(SIG_IGN)",
    "handler",
    JSON.stringify({ kind: "signaled", signal: 10, coreDumped: false, raw: 10 }),
  ]);
});

Deno.test("signal() says how a child handles a signal that its parent does not", async () => {
  const output = await run(async () => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
    const child = () => {
      const handle = () => tine.signal(tine.SIGUSR1, () => console.log("handled"));
      try {
        handle();
      } catch (error) {
        console.log((error as Error).message);
      }
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
      handle();
      tine.kill(tine.getpid(), tine.SIGUSR1);
      tine.sleep(60);
    };
    tine.waitpid(tine.forkChild(child));
    tine.waitpid(await tine.forkRuntimeChild(() => Promise.resolve(child())));
  });
  assertEquals(
    output,
    ("Cannot handle SIGUSR1: a thread of the runtime could receive it. Name it in the first line " +
      "of the program, and of a child that is to handle it: " +
      "becomeForkable({ signals: [SIGCHLD, SIGUSR1] })\nhandled\n").repeat(2),
  );
});

Deno.test("signal() rejects a handler for a signal that a thread of the runtime could receive", () => {
  assertThrows(
    () => tine.signal(tine.SIGTERM, () => {}),
    Error,
    "becomeForkable({ signals: [SIGCHLD, SIGTERM] })",
  );
  assertThrows(() => tine.signal(0, tine.SIG_IGN), RangeError, "Cannot use 0 as a signal");
  assertThrows(() => tine.signal(65, tine.SIG_IGN), RangeError);
  for (const action of [tine.SIG_IGN, () => {}] as const) {
    const error = assertThrows(() => tine.signal(tine.SIGKILL, action), tine.SyscallError);
    assertEquals(error.message, "Cannot signal SIGKILL: EINVAL (Invalid argument)");
  }
  const error = assertThrows(
    () => tine.signal(tine.SIGUSR1, undefined as unknown as typeof tine.SIG_DFL),
    TypeError,
  );
  assertEquals(
    error.message,
    "Cannot handle SIGUSR1 with undefined: expected a function, SIG_IGN or SIG_DFL",
  );
});

Deno.test("signalName() names every signal", () => {
  assertEquals(tine.signalName(tine.SIGCHLD), "SIGCHLD");
  assertEquals(tine.signalName(32), "SIG32");
  assertEquals(tine.signalName(34), "SIGRTMIN");
  assertEquals(tine.signalName(tine.SIGRTMAX), "SIGRTMIN+30");
  for (const [name, signum] of Object.entries(Deno.build.os === "linux" ? tine : {})) {
    if (!/^SIG[A-Z0-9]+$/.test(name) || /^(SIGIOT|SIGPOLL|SIGRTMAX)$/.test(name)) continue;
    assertEquals(tine.signalName(signum as number), name);
  }
});

Deno.test("sigprocmask() blocks a handled signal until it is unblocked", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGUSR1] });
    let handled = 0;
    tine.signal(tine.SIGUSR1, () => handled++);
    const before = tine.sigprocmask(tine.SIG_BLOCK, [tine.SIGUSR1, tine.SIGUSR2]);
    tine.kill(tine.getpid(), tine.SIGUSR1);
    tine.sleep(0.01);
    console.log(before, handled, tine.sigprocmask(tine.SIG_BLOCK));
    tine.ppoll([], 0, []);
  }).catch((error) => error.message);
  assertMatch(output, /\[\] 0 \[ 10, 12 \]/);
  // ppoll() with an empty mask let the handler in, uncaught.
  assertMatch(output, /SyscallError: Cannot poll: EINTR/);
  assertThrows(() => tine.sigprocmask(9, []), RangeError);
  assertThrows(() => tine.sigprocmask(tine.SIG_BLOCK, [99]), RangeError);
});

Deno.test("sigprocmask() does not name signals that the kernel never blocks", async () => {
  const output = await run(() => {
    const { SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGKILL, SIGSTOP } = tine;
    tine.sigprocmask(SIG_BLOCK, [SIGKILL, SIGHUP]);
    console.log(tine.sigprocmask(SIG_SETMASK, [SIGSTOP, 32]), tine.sigprocmask(SIG_BLOCK));
  });
  assertEquals(output, "[ 1 ] []\n");
});

Deno.test("wait() prefers a child's status to another signal's EINTR, and EINTR to nothing", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD] });
    let handled = 0;
    tine.signal(tine.SIGCHLD, () => handled++);
    const first = tine.forkChild(() => 3);
    console.log(JSON.stringify(tine.waitpid(first).status), handled);
    const long = tine.forkChild(() => void tine.sleep(60));
    const short = tine.forkChild(() => {});
    let interrupted = 0;
    for (let i = 0; i < 3; i++) {
      try {
        tine.waitpid(long);
      } catch (error) {
        if (!(error instanceof tine.SyscallError && error.code === "EINTR")) throw error;
        interrupted++;
        if (interrupted === 2) break;
        tine.waitpid(short);
        tine.forkChild(() => {});
      }
    }
    console.log(interrupted, handled > 0);
    tine.signal(tine.SIGCHLD, tine.SIG_DFL); // the last child may end now as well as before
    tine.kill(long, tine.SIGKILL);
    console.log(tine.waitpid(long).status?.kind);
  });
  assertMatch(output, /^{"kind":"exited","code":3,"raw":768} 0\n2 true\nsignaled\n$/);
});

Deno.test("waitpid() ends with ECHILD where SIGCHLD is ignored and another signal has a handler", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
    tine.signal(tine.SIGUSR1, () => {});
    tine.signal(tine.SIGCHLD, tine.SIG_IGN);
    for (const wait of [tine.waitpid, () => tine.wait()]) {
      const pid = tine.forkChild(() => void tine.sleep(0.1));
      try {
        wait(pid);
      } catch (error) {
        console.log((error as tine.SyscallError).code);
      }
    }
  });
  assertEquals(output, "ECHILD\nECHILD\n");
});

Deno.test("under many signals, every child is reaped and every call succeeds or fails with EINTR", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1, tine.SIGUSR2] });
    let reaped = 0;
    let stormed = 0;
    let keep: unknown[] = [];
    tine.signal(tine.SIGCHLD, () => {
      while (tine.waitpid(-1, tine.WNOHANG).pid !== 0) reaped++;
    });
    const count = () => {
      stormed++;
      keep = Array.from({ length: 500 }, (_, i) => ({ i, text: `s${i}` }));
    };
    tine.signal(tine.SIGUSR1, count);
    tine.signal(tine.SIGUSR2, count);
    const parent = tine.getpid();
    const storm = tine.forkChild(() => {
      for (;;) {
        tine.kill(parent, tine.SIGUSR1);
        tine.kill(parent, tine.SIGUSR2);
        tine.sleep(0.0002);
      }
    });
    const children = 1000;
    let interrupted = 0;
    for (let i = 0; i < children; i++) {
      tine.forkChild(() => {});
      try {
        tine.poll([], 1);
      } catch (error) {
        if (!(error instanceof tine.SyscallError && error.code === "EINTR")) throw error;
        interrupted++;
      }
    }
    for (const end = performance.now() + 20_000; reaped < children && performance.now() < end;) {
      tine.sleep(0.01);
    }
    tine.kill(storm, tine.SIGKILL);
    console.log(reaped, stormed > 100, interrupted > 100, keep.length);
  });
  assertEquals(output, "1000 true true 500\n");
});

Deno.test("a blocked SIGTERM's handler runs when the program waits", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGTERM] });
    tine.signal(tine.SIGTERM, () => {
      console.log("stopping");
      tine._exit(5);
    });
    console.log("ready");
    for (;;) tine.sleep(1);
  });
  await server.printed(/ready/);
  server.kill("SIGTERM");
  assertEquals((await server.ended()).code, 5);
  assert(server.stdout.endsWith("stopping\n"));
});

Deno.test("kill() checks for a process with signal 0, and rejects an invalid pid", async () => {
  tine.kill(tine.getpid(), 0);
  assertThrows(() => tine.kill(NaN, tine.SIGTERM), RangeError);
  assertThrows(() => tine.kill(2 ** 32, tine.SIGTERM), RangeError);
  const ended = new Deno.Command("true").spawn();
  await ended.status;
  await until(() => {
    try {
      tine.kill(ended.pid, 0);
      return false;
    } catch (error) {
      return error instanceof tine.SyscallError && error.code === "ESRCH";
    }
  }, "the process to be gone");
});

Deno.test("a child receives signals that Deno itself handles in the parent", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      // Deno does that half a second after it first polls its event loop.
      const handled = () => {
        const caught = Deno.readTextFileSync("/proc/self/status").match(/SigCgt:\s*(.*)/)![1];
        return (BigInt("0x" + caught) & (1n << BigInt(tine.SIGTERM - 1))) !== 0n;
      };
      while (!handled()) await new Promise((resolve) => setTimeout(resolve, 20));
      for (const signum of [tine.SIGTERM, tine.SIGINT, tine.SIGHUP, tine.SIGUSR1]) {
        for (const runtime of [false, true]) {
          const pid = tine.fork({ runtime });
          if (pid === 0) {
            tine.sleep(30);
            tine._exit(0);
          }
          tine.kill(pid, signum); // immediately: it may arrive before the child's first line
          const { status } = tine.waitpid(pid);
          console.log(status?.kind === "signaled" && status.signal === signum);
        }
      }
      const child = await tine.forkRuntimeChild(async () => {
        try {
          Deno.addSignalListener("SIGTERM", () => {});
        } catch (error) {
          await Promise.resolve();
          console.log(
            (error as Error).message.startsWith("Cannot listen to SIGTERM in this child"),
          );
        }
      });
      tine.waitpid(child);
      console.log(handled());
      tine._exit(0);
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(output, "true\n".repeat(10));
});

Deno.test("a program with handlers receives the same data as one without", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGUSR1] });
    tine.signal(tine.SIGUSR1, () => {});
    const listener = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listener.bind(["127.0.0.1", 0]);
    listener.listen(1);
    const client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    client.connect(listener.getsockname());
    const [server] = listener.accept();
    // MSG_WAITALL: the first part must not be lost while the second is on its way.
    const parts = [new Uint8Array(10).fill(1), new Uint8Array(10).fill(2)];
    client.sendall(parts[0]!);
    const sender = tine.forkChild(() => {
      tine.sleep(0.05);
      client.sendall(parts[1]!);
    });
    console.log(
      server.recv(20, tine.MSG_WAITALL).join("") === parts.map((p) => p.join("")).join(""),
    );
    tine.waitpid(sender);
    // A socket that does not wait does not wait here either.
    tine.fcntl(server.fileno(), tine.F_SETFL, tine.O_NONBLOCK);
    try {
      server.recv(1);
    } catch (error) {
      console.log(error instanceof tine.SyscallError && error.code);
    }
    const other = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    tine.fcntl(other.fileno(), tine.F_SETFL, tine.O_NONBLOCK);
    try {
      other.connect(listener.getsockname());
    } catch (error) {
      console.log(error instanceof tine.SyscallError && error.code);
    }
    console.log((tine.fcntl(other.fileno(), tine.F_GETFL) & tine.O_NONBLOCK) !== 0);
  });
  assertEquals(output, "true\nEAGAIN\nEINPROGRESS\ntrue\n");
});
