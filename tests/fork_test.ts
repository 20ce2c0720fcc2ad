import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { run, startFunction } from "./support.ts";

Deno.test("fork() creates a child that has the parent's heap", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const heap = Array.from({ length: 100_000 }, (_, i) => ({ i, text: `x${i}` }));
    const pid = tine.fork();
    if (pid === 0) {
      const intact = heap.every(({ i, text }, at) => i === at && text === `x${at}`);
      tine._exit(intact ? 7 : 1);
    }
    const { pid: reaped, status } = tine.waitpid(pid);
    console.log(JSON.stringify([reaped === pid, status]));
  });
  assertEquals(JSON.parse(output), [true, { kind: "exited", code: 7, raw: 0x700 }]);
});

Deno.test("fork() leaves no mapping that a child would not inherit", async () => {
  const output = await run(
    () => {
      tine.becomeForkable();
      const notInherited = () =>
        Deno.readTextFileSync("/proc/self/smaps").match(/^VmFlags:.* dc( |$)/gm)?.length ?? 0;
      let worst = 0;
      let churn: unknown[] = [];
      for (let i = 0; i < 20; i++) {
        churn = Array.from({ length: 50_000 }, (_, at) => ({ at, text: `${at}` }));
        const before = notInherited();
        const pid = tine.fork();
        if (pid === 0) tine._exit(0);
        // The parent's mappings are what the child got, less what V8 made since.
        worst = Math.max(worst, notInherited() - before);
        tine.waitpid(pid);
      }
      console.log(worst <= 0, churn.length);
      const child = tine.fork();
      if (child === 0) {
        console.log(notInherited());
        tine._exit(0);
      }
      tine.waitpid(child);
    },
    [],
    { flags: ["-A"] },
  );
  assertMatch(output, /^true 50000\n/);
});

Deno.test("fork() leaves none if memory is mapped from the bottom up, above the kernel's own code", async () => {
  // The kernel does so for a stack without a limit: V8's heap lies on both sides of [vdso] then.
  await using program = startFunction(
    () => {
      tine.becomeForkable();
      const kept: unknown[] = [];
      let dead = 0;
      for (let i = 0; i < 20; i++) {
        kept.push(new Array(10_000).fill(i));
        const pid = tine.fork();
        if (pid === 0) tine._exit(kept.length === i + 1 ? 0 : 1);
        if (tine.waitpid(pid).status?.raw !== 0) dead++;
      }
      console.log(dead);
    },
    [],
    { shell: "ulimit -s unlimited;" },
  );
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout, "0\n");
});

Deno.test("fork() gives parent and child their own numbers, in every place that shows them", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const parent = Deno.pid; // Deno keeps what it has once been asked for
    const pid = tine.fork();
    if (pid === 0) {
      const own = tine.getpid();
      console.log(
        own !== parent,
        Deno.pid === own,
        tine.getppid() === parent,
        (globalThis as unknown as { process: { pid: number } }).process.pid === own,
      );
      tine._exit(0);
    }
    tine.waitpid(pid);
    console.log(Deno.pid === parent, pid !== parent);
  });
  assertEquals(output, "true true true true\ntrue true\n");
});

Deno.test("fork() gives children their own process.pid, even if the parent has loaded node:process", async () => {
  const output = await run(async () => {
    const process = (await import("node:process")).default;
    tine.becomeForkable();
    process.argv.push("added");
    process.argv[1] = "changed";
    const before = JSON.stringify([process.argv, process.platform, process.argv0]);
    const { stdout } = process;
    const isOwn = () =>
      process.pid === tine.getpid() && process.ppid === tine.getppid() &&
      Deno.ppid === tine.getppid() && process.stdout === stdout &&
      JSON.stringify([process.argv, process.platform, process.argv0]) === before;
    for (const runtime of [false, true]) {
      const child = tine.fork({ runtime });
      if (child === 0) {
        const grandchild = tine.fork({ runtime });
        if (grandchild === 0) tine._exit(isOwn() ? 0 : 1);
        const { status } = tine.waitpid(grandchild);
        tine._exit(isOwn() && status?.raw === 0 ? 0 : 1);
      }
      console.log(tine.waitpid(child).status?.raw, isOwn());
    }
  }, ["an argument"]);
  assertEquals(output, "0 true\n0 true\n");
});

Deno.test("process.kill(process.pid) in a child ends the child, even if the parent has loaded node:process", async () => {
  const output = await run(
    async () => {
      const process = (await import("node:process")).default;
      tine.becomeForkable();
      const end = () => void process.kill(process.pid, "SIGKILL");
      const endLater = () => Promise.resolve(end());
      for (const child of [tine.forkChild(end), await tine.forkRuntimeChild(endLater)]) {
        console.log(JSON.stringify(tine.waitpid(child).status));
      }
      const child = tine.forkChild(() => tine.pause());
      process.kill(child, "SIGKILL");
      console.log(JSON.stringify(tine.waitpid(child).status));
    },
    [],
    { flags: ["-A"] },
  );
  const status = '{"kind":"signaled","signal":9,"coreDumped":false,"raw":9}\n';
  assertEquals(output, status.repeat(3));
});

Deno.test("fork() works from inside a forked child", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const codes = new Int32Array(tine.mmap(16, tine.MAP_SHARED | tine.MAP_ANONYMOUS));
    const child = tine.fork();
    if (child === 0) {
      const grandchild = tine.fork();
      if (grandchild === 0) {
        const great = tine.fork();
        if (great === 0) tine._exit(3);
        const { status } = tine.waitpid(great);
        codes[2] = status?.kind === "exited" ? status.code : -1;
        tine._exit(2);
      }
      const { status } = tine.waitpid(grandchild);
      codes[1] = status?.kind === "exited" ? status.code : -1;
      tine._exit(1);
    }
    const { status } = tine.waitpid(child);
    console.log(status?.kind === "exited" && status.code, codes[1], codes[2]);
  });
  assertEquals(output, "1 2 3\n");
});

Deno.test("a child has the signal mask from before becomeForkable(), unless it keeps handlers", async () => {
  const output = await run(
    () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
      const blocked = () => {
        const status = Deno.readTextFileSync("/proc/self/status");
        console.log(BigInt("0x" + status.match(/SigBlk:\t(.*)/)![1]).toString(2));
      };
      const child = () => {
        const pid = tine.fork();
        if (pid === 0) {
          blocked();
          tine._exit(0);
        }
        tine.waitpid(pid);
      };
      blocked();
      child();
      tine.signal(tine.SIGUSR1, () => {});
      child();
      tine.signal(tine.SIGUSR1, tine.SIG_DFL);
      tine.sigprocmask(tine.SIG_BLOCK, [tine.SIGHUP]);
      child();
    },
    [],
    { flags: ["-A"] },
  );
  const bit = (...signals: number[]) =>
    signals.reduce((mask, signum) => mask | (1n << BigInt(signum - 1)), 0n).toString(2);
  assertEquals(output.trim().split("\n"), [
    bit(tine.SIGCHLD, tine.SIGUSR1),
    "0",
    bit(tine.SIGUSR1),
    bit(tine.SIGHUP),
  ]);
});

Deno.test("fork() does not change the parent's signals, including a pending one", async () => {
  const output = await run(
    () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
      const blocked = () => {
        const [, hex] = Deno.readTextFileSync("/proc/thread-self/status").match(
          /^SigBlk:\s*(\w+)$/m,
        )!;
        const bits = BigInt(`0x${hex}`);
        return [tine.SIGCHLD, tine.SIGTERM].filter((one) => bits & (1n << BigInt(one - 1)));
      };
      const check = () => {
        const child = tine.fork();
        if (child === 0) tine._exit(blocked().length);
        const { status } = tine.waitpid(child);
        return [status?.kind === "exited" && status.code, blocked().length];
      };
      const seen = [check()];
      tine.kill(tine.getpid(), tine.SIGTERM); // held, and nothing handles it yet
      seen.push(check());
      let heard = 0;
      tine.signal(tine.SIGTERM, () => heard++);
      try {
        tine.sleep(5);
      } catch {
        // EINTR
      }
      seen.push(check()); // the child has a handler too
      console.log(JSON.stringify([...seen, heard]));
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(JSON.parse(output), [[0, 2], [0, 2], [1, 2], 1]);
});

Deno.test("fork() in a handler does not change the mask there or outside", async () => {
  const output = await run(
    () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
      const blocked = () =>
        Deno.readTextFileSync("/proc/thread-self/status").match(/^SigBlk:\s*(\w+)$/m)![1];
      const masks = [blocked()];
      const forkOnce = () => {
        const child = tine.fork();
        if (child === 0) tine._exit(0);
        masks.push(blocked());
        tine.waitpid(child);
      };
      tine.signal(tine.SIGUSR1, forkOnce);
      tine.kill(tine.getpid(), tine.SIGUSR1);
      try {
        tine.sleep(5);
      } catch {
        // EINTR
      }
      masks.push(blocked());
      forkOnce();
      console.log(JSON.stringify(masks));
    },
    [],
    { flags: ["-A"] },
  );
  const masks = JSON.parse(output);
  assertEquals(masks, Array(4).fill(masks[0]));
});

Deno.test("a child that ends immediately touches little more memory than after fork(2)", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { forkWithHeap } = await import(Deno.args[0]!);
      const faults: Record<string, number[]> = { least: [], ours: [] };
      // Long enough for V8 to optimize the parent, which never goes the child's way.
      for (let i = 0; i < 1500; i++) {
        for (const [name, fork] of [["least", forkWithHeap], ["ours", tine.fork]] as const) {
          const pid = fork();
          if (pid === 0) tine._exit(0);
          let stat = "";
          do stat = Deno.readTextFileSync(`/proc/${pid}/stat`); while (!/\) Z /.test(stat));
          faults[name]!.push(Number(stat.replace(/^.*\) /, "").split(" ")[7]));
          tine.waitpid(pid);
        }
      }
      const [least, ours] = ["least", "ours"].map((name) =>
        faults[name]!.slice(-300).toSorted((a, b) => a - b)[150]
      );
      console.log(JSON.stringify({ least, ours }));
    },
    [new URL("../ffi/runtime/heap.ts", import.meta.url).href],
    { flags: ["-A"] },
  );
  const { least, ours } = JSON.parse(output);
  // A call of a function that was never called before, or code that V8 must give up, takes 60 more.
  assert(ours < least + 30, output);
});

Deno.test("an uncaught exception in a child is printed and ends it with exit code 1", async () => {
  await using program = startFunction(() => {
    tine.becomeForkable();
    for (const kind of ["exception", "rejection", "in a function"]) {
      const pid = kind === "in a function"
        ? tine.forkChild(() => {
          throw new Error(`boom ${kind}`);
        })
        : tine.fork();
      if (pid === 0 && kind === "exception") throw new Error(`boom ${kind}`);
      if (pid === 0) return Promise.reject(new Error(`boom ${kind}`));
      const { status } = tine.waitpid(pid);
      console.log(kind, JSON.stringify(status));
    }
  });
  const { code } = await program.ended();
  assertEquals(code, 0, program.stderr);
  for (const kind of ["exception", "rejection", "in a function"]) {
    assertStringIncludes(program.stdout, `${kind} {"kind":"exited","code":1,"raw":256}\n`);
    assertEquals(program.stderr.split(`Error: boom ${kind}`).length, 2, program.stderr);
  }
});

Deno.test("a child without a runtime ends with an error when it returns to the event loop", async () => {
  await using program = startFunction(async () => {
    tine.becomeForkable();
    const timer = setInterval(() => {
      if (tine.getpid() !== parent) console.log("the parent's timer ran in the child");
    }, 1);
    const parent = tine.getpid();
    const pid = tine.fork();
    if (pid === 0) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      console.log("the child went on");
      tine._exit(0);
    }
    const { status } = tine.waitpid(pid);
    console.log(JSON.stringify(status));
    await new Promise((resolve) => setTimeout(resolve, 20));
    clearInterval(timer);
  });
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout, '{"kind":"exited","code":1,"raw":256}\n');
  assertStringIncludes(program.stderr, "returned to the event loop, which only its parent can run");
});

Deno.test("every child without a runtime that returns to the event loop ends, and none with a runtime", async () => {
  await using program = startFunction(async () => {
    tine.becomeForkable();
    const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    for (let turn = 0; turn < 2; turn++) {
      for (const runtime of [false, false, true]) {
        const pid = tine.fork({ runtime });
        if (pid === 0) {
          await sleep(20);
          tine._exit(0);
        }
        console.log(runtime, tine.waitpid(pid).status?.raw);
      }
      await sleep(1);
    }
  });
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout, "false 256\nfalse 256\ntrue 0\n".repeat(2));
});

Deno.test("a child that has forked itself ends with an error when it returns to the event loop", async () => {
  await using program = startFunction(async () => {
    tine.becomeForkable();
    const own = tine.getpid();
    for (let i = 0; i < 3; i++) tine.fork();
    const isParent = tine.getpid() === own;
    // All seven descendants end, each before its parent waits for it.
    for (let children = 0;; children++) {
      try {
        tine.wait();
      } catch {
        console.log(isParent ? "parent" : "child", children);
        break;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
    console.log("went on", tine.getpid() === own);
  });
  assertEquals((await program.ended()).code, 0, program.stderr);
  const lines = program.stdout.trim().split("\n");
  assertEquals(lines.pop(), "went on true", program.stdout);
  assertEquals(lines.toSorted(), [
    "child 0",
    "child 0",
    "child 0",
    "child 0",
    "child 1",
    "child 1",
    "child 2",
    "parent 3",
  ]);
  assertEquals(program.stderr.match(/returned to the event loop/g)?.length, 7, program.stderr);
});

Deno.test("a child that returns to the event loop takes no events of its parent's", async () => {
  await using program = startFunction(
    async () => {
      tine.becomeForkable();
      const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
      client.connect(["127.0.0.1", listener.addr.port]);
      const connection = await listener.accept();
      for (let i = 0; i < 5; i++) {
        const reading = connection.read(new Uint8Array(10));
        await sleep(1); // now the event loop waits for it
        client.send(Uint8Array.of(1));
        const pid = tine.fork();
        if (pid === 0) await sleep(100);
        console.log(tine.waitpid(pid).status?.raw, await reading);
      }
      tine._exit(0);
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout, "256 1\n".repeat(5));
});

Deno.test("a child that runs to the end of the program ends with an error", async () => {
  await using program = startFunction(() => {
    tine.becomeForkable();
    const pid = tine.fork();
    if (pid !== 0) console.log(JSON.stringify(tine.waitpid(pid).status));
  });
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout, '{"kind":"exited","code":1,"raw":256}\n');
  assertStringIncludes(program.stderr, "returned to the event loop");
});

Deno.test("forkChild() never continues in the parent's code, and returns the exit code", async () => {
  await using program = startFunction(() => {
    tine.becomeForkable();
    const children = [
      () => {},
      () => 7,
      () => 256,
      () => {
        throw "no error object";
      },
    ];
    for (const child of children) {
      let pid: number;
      try {
        pid = tine.forkChild(child);
      } catch {
        console.log("in the parent's code", tine.getpid());
        continue;
      }
      const { status } = tine.waitpid(pid);
      console.log(tine.getpid(), status?.kind === "exited" && status.code);
    }
  });
  assertEquals((await program.ended()).code, 0, program.stderr);
  const lines = program.stdout.trim().split("\n");
  assertEquals(lines, [0, 7, 1, 1].map((code) => `${program.pid} ${code}`));
  assertStringIncludes(program.stderr, "returned 256: expected an exit code");
  assertStringIncludes(program.stderr, "no error object");
});

Deno.test("fork() fails with EAGAIN at the user's limit, and works again afterwardswards", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const child = tine.forkChild(() => {
      if (tine.getuid() === 0) tine.setuid(54322); // root has no limit
      const { hard } = tine.getrlimit(tine.RLIMIT_NPROC);
      tine.setrlimit(tine.RLIMIT_NPROC, { soft: 1, hard });
      try {
        tine.forkChild(() => {});
      } catch (error) {
        console.log(String(error));
      }
      tine.setrlimit(tine.RLIMIT_NPROC, { soft: hard, hard });
      console.log(JSON.stringify(tine.waitpid(tine.forkChild(() => 5)).status));
    });
    console.log(JSON.stringify(tine.waitpid(child).status));
  });
  assertEquals(output.trim().split("\n"), [
    "SyscallError: Cannot fork: EAGAIN (Resource temporarily unavailable)",
    '{"kind":"exited","code":5,"raw":1280}',
    '{"kind":"exited","code":0,"raw":0}',
  ]);
});

Deno.test("none of 1000 children hangs or crashes under garbage collection", async () => {
  const output = await run(
    () => {
      tine.becomeForkable();
      const churn = (count: number) => {
        let objects: unknown[] = [];
        for (let i = 0; i < count; i++) {
          objects.push({ i, text: "x" + i, map: new Map([[i, {}]]) });
          if (objects.length > 20_000) objects = [];
        }
        return objects;
      };
      let ended = 0;
      let keep: unknown[] = [];
      const reap = (options: number) => {
        const { pid, status } = tine.waitpid(-1, options);
        if (pid === 0) return false;
        if (status?.kind !== "exited" || status.code !== 0) console.log(JSON.stringify(status));
        ended++;
        return true;
      };
      let running = 0;
      for (let i = 0; i < 1000; i++) {
        keep = churn(1000 + (i % 7) * 1000);
        tine.forkChild(() => {
          tine.alarm(60); // a hang ends as a signal
          churn(5000 + (i % 3) * 5000);
          const compiled = new Function(
            "n",
            "let t = 0; for (let i = 0; i < n; i++) t += Math.sqrt(i); return t",
          );
          return compiled(20_000 + i) > 0 ? 0 : 1;
        });
        running++;
        while (running > 4 || (running > 0 && reap(tine.WNOHANG))) {
          if (running > 4) reap(0);
          running--;
        }
      }
      while (running-- > 0) reap(0);
      console.log(ended, keep.length > 0);
    },
    [],
    { flags: ["--allow-ffi"] },
  );
  assertEquals(output, "1000 true\n");
});

Deno.test("no child lacks a part of the heap that V8 mapped on the way to fork()", async () => {
  // Fresh processes: their heaps still grow, so that many allocations map a new part.
  for (let round = 0; round < 8; round++) {
    const output = await run(() => {
      tine.becomeForkable();
      const kept: unknown[] = [];
      let dead = 0;
      for (let i = 0; i < 500; i++) {
        kept.push({ i, text: `kept ${i}`, bytes: new Array(40).fill(i) });
        const pid = tine.fork();
        if (pid === 0) tine._exit(kept.length === i + 1 ? 0 : 1);
        if (tine.waitpid(pid).status?.raw !== 0) dead++;
      }
      console.log(dead);
    });
    assertEquals(output, "0\n");
  }
});
