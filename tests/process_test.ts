import { assert, assertEquals, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { isRunning, processState, run, startFunction, until } from "./support.ts";

/** The timers of setitimer(2), and what each sends. */
const TIMERS = { ITIMER_REAL: "SIGALRM", ITIMER_VIRTUAL: "SIGVTALRM", ITIMER_PROF: "SIGPROF" };

Deno.test("getpid() and getppid() agree with the kernel", () => {
  assertEquals(tine.getpid(), Deno.pid);
  assertEquals(tine.getppid(), processState(Deno.pid)?.ppid);
  assertEquals([tine.getuid(), tine.getgid()], [Deno.uid(), Deno.gid()]);
});

Deno.test("_exit() ends the process immediately, with its code", async () => {
  await using program = startFunction(() => {
    globalThis.addEventListener("unload", () => console.log("unload"));
    tine._exit(42);
  });
  assertEquals(await program.ended(), { code: 42, signal: null });
  assertEquals(program.stdout, "");
  assertThrows(() => tine._exit(256), RangeError, "Cannot _exit with 256");
});

Deno.test("waitpid() reports that a child ended, stopped and continued", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const child = tine.forkChild(() => {
      for (;;) tine.sleep(60);
    });
    const show = (options = 0) => console.log(JSON.stringify(tine.waitpid(child, options).status));
    console.log(JSON.stringify(tine.waitpid(-1, tine.WNOHANG)));
    tine.kill(child, tine.SIGSTOP);
    show(tine.WUNTRACED);
    tine.kill(child, tine.SIGCONT);
    show(tine.WCONTINUED);
    tine.kill(child, tine.SIGKILL);
    show();
    try {
      tine.waitpid(-1);
    } catch (error) {
      console.log(String(error));
    }
    try {
      tine.wait();
    } catch (error) {
      console.log(String(error));
    }
  });
  assertEquals(output.trim().split("\n"), [
    '{"pid":0}',
    '{"kind":"stopped","signal":19,"raw":4991}',
    '{"kind":"continued","raw":65535}',
    '{"kind":"signaled","signal":9,"coreDumped":false,"raw":9}',
    "SyscallError: Cannot waitpid for -1: ECHILD (No child processes)",
    "SyscallError: Cannot wait: ECHILD (No child processes)",
  ]);
});

Deno.test("decodeWaitStatus() reads a core dump", () => {
  const status = tine.decodeWaitStatus(139);
  assertEquals(status, { kind: "signaled", signal: 11, coreDumped: true, raw: 139 });
});

Deno.test("decodeWaitStatus() agrees with the macros of wait(2) for every number", () => {
  for (let raw = 0; raw <= 0xffff; raw++) {
    // As in glibc's bits/waitstatus.h.
    const low = raw & 0x7f;
    const high = raw >> 8;
    const expected: tine.WaitStatus[] = [];
    if (low === 0) expected.push({ kind: "exited", code: high, raw }); // WIFEXITED, WEXITSTATUS
    if (((low + 1) << 24) >> 25 > 0) { // WIFSIGNALED, with a char that has a sign
      expected.push({ kind: "signaled", signal: low, coreDumped: (raw & 0x80) !== 0, raw });
    }
    if ((raw & 0xff) === 0x7f) expected.push({ kind: "stopped", signal: high, raw }); // WIFSTOPPED
    if (raw === 0xffff) expected.push({ kind: "continued", raw }); // WIFCONTINUED
    assert(expected.length <= 1, `${raw}`);
    // No macro knows 0x00ff to 0xfeff, and the kernel does not make them.
    if (expected.length === 1) assertEquals(tine.decodeWaitStatus(raw), expected[0]);
    else assert((raw & 0xff) === 0xff, `${raw}`);
  }
});

Deno.test("waitpid() returns the exit code, or the signal that ended the process", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const codes = Array.from({ length: 52 }, (_, i) => 5 * i); // 0 to 255
    const ended = codes.filter((code) => {
      const { status } = tine.waitpid(tine.forkChild(() => code));
      return status?.kind !== "exited" || status.code !== code || status.raw !== code << 8;
    });
    const { SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGALRM, SIGUSR1, SIGRTMIN, SIGRTMAX } = tine;
    const signals = [SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGALRM, SIGUSR1, SIGRTMIN, SIGRTMAX];
    const killed = signals.filter((signum) => {
      const child = tine.forkChild(() => {
        for (;;) tine.sleep(60);
      });
      tine.kill(child, signum);
      const { status } = tine.waitpid(child);
      return status?.kind !== "signaled" || status.signal !== signum || status.coreDumped;
    });
    console.log(`wrong codes: [${ended}], wrong signals: [${killed}]`);
  });
  assertEquals(output, "wrong codes: [], wrong signals: []\n");
});

Deno.test("waitpid() says what it expects when it gets an object as options", () => {
  const error = assertThrows(
    () => tine.waitpid(-1, { WNOHANG: true } as unknown as number),
    RangeError,
  );
  assertEquals(
    error.message,
    "Cannot waitpid with options { WNOHANG: true }: expected WNOHANG, WUNTRACED, WCONTINUED, " +
      "OR-ed together, or 0",
  );
});

Deno.test("execve() gives the new program its arguments, environment and old signal mask", async () => {
  const program = () => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
    tine.signal(tine.SIGTERM, () => {});
    try {
      tine.execve("/no/such/program", ["x"]);
    } catch (error) {
      console.log(String(error));
    }
    tine.execve("/bin/sh", [
      "sh",
      "-c",
      'echo "$0 $1 $TINE_TEST $HOME"; grep -E "^Sig(Blk|Ign|Cgt)" /proc/self/status',
      "one two",
    ], { TINE_TEST: "value" });
  };
  const lines = (await run(program)).trim().split("\n");
  assertEquals(
    lines[0],
    "SyscallError: Cannot execve /no/such/program: ENOENT (No such file or directory)",
  );
  assertEquals(lines[1]!.trim(), "one two  value");
  const masks = Object.fromEntries(lines.slice(2).map((line) => line.split(/:\s*/)));
  assertEquals(BigInt("0x" + masks.SigBlk), 0n);
  assertEquals(BigInt("0x" + masks.SigIgn) & (1n << 12n), 0n, "SIGPIPE is ignored");
});

Deno.test("execve() leaves signals as they were when a string contains NUL", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
    tine.signal(tine.SIGTERM, () => console.log("handled"));
    const signals = () =>
      new TextDecoder().decode(tine.open("/proc/self/status", tine.O_RDONLY).read(65536))
        .match(/^Sig(Blk|Ign|Cgt).*/gm)!.join();
    const before = signals();
    const calls: [string, string[], Record<string, string>?][] = [
      ["/bin/tr\0ue", ["true"]],
      ["/bin/true", ["tr\0ue"]],
      ["/bin/true", ["true"], { A: "\0" }],
    ];
    for (const call of calls) {
      try {
        tine.execve(...call);
      } catch (error) {
        console.log((error as Error).name, signals() === before);
      }
    }
    tine.kill(tine.getpid(), tine.SIGTERM);
    tine.sleep(60);
  });
  assertEquals(output, "TypeError true\n".repeat(3) + "handled\n");
});

Deno.test("execve() passes on the environment as it is", async () => {
  const output = await run(
    () => {
      Deno.env.set("TINE_LATER", "later");
      tine.execve("/usr/bin/env", ["env"]);
    },
    [],
    { flags: ["--allow-ffi", "--allow-env"], env: { TINE_BEFORE: "before" } },
  );
  assert(output.includes("TINE_BEFORE=before\n"), output);
  assert(output.includes("TINE_LATER=later\n"), output);
});

Deno.test("setrlimit() sets what getrlimit() returns", async () => {
  const output = await run(() => {
    const { hard } = tine.getrlimit(tine.RLIMIT_NOFILE);
    tine.setrlimit(tine.RLIMIT_NOFILE, { soft: 64, hard });
    console.log(
      JSON.stringify(tine.getrlimit(tine.RLIMIT_NOFILE)) === `{"soft":64,"hard":${hard}}`,
    );
    tine.setrlimit(tine.RLIMIT_CORE, { soft: 0, hard: 0 });
    console.log(JSON.stringify(tine.getrlimit(tine.RLIMIT_CORE)));
    const pipes: unknown[] = [];
    try {
      for (;;) pipes.push(tine.pipe());
    } catch (error) {
      console.log(String(error));
    }
  });
  assertEquals(output.trim().split("\n"), [
    "true",
    '{"soft":0,"hard":0}',
    "SyscallError: Cannot pipe: EMFILE (Too many open files)",
  ]);
  assertThrows(
    () => tine.setrlimit(tine.RLIMIT_NOFILE, { soft: -1, hard: 1 }),
    RangeError,
    "Cannot set a limit of -1",
  );
  assertThrows(() => tine.getrlimit(99), tine.SyscallError, "EINVAL");
});

Deno.test("alarm() ends an endless loop", async () => {
  await using program = startFunction(() => {
    console.log(tine.alarm(100), tine.alarm(1));
    for (;;);
  });
  assertEquals((await program.ended()).signal, "SIGALRM");
  assertEquals(program.stdout, "0 100\n");
  assertThrows(() => tine.alarm(-1), RangeError);
});

for (const [timer, signal] of Object.entries(TIMERS)) {
  Deno.test(`setitimer() sends ${signal} for ${timer}, and returns the time left of the previous timer`, async () => {
    await using program = startFunction(
      () => {
        const timer = Number(Deno.args[0]);
        console.log(JSON.stringify(tine.setitimer(timer, 100, 7.25)));
        const { value, interval } = tine.setitimer(timer, 0.05);
        console.log(value > 90 && value < 101, interval);
        for (;;);
      },
      [String(tine[timer as keyof typeof TIMERS])],
    );
    assertEquals((await program.ended()).signal, signal);
    assertEquals(program.stdout, '{"value":0,"interval":0}\ntrue 7.25\n');
  });
}

Deno.test("a time of less than a microsecond neither cancels a timer nor removes a time limit", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGALRM] });
    tine.signal(tine.SIGALRM, () => console.log("SIGALRM"));
    tine.setitimer(tine.ITIMER_REAL, 1e-9);
    console.log(tine.sleep(1) > 0);
    const [socket] = tine.socketpair(tine.SOCK_STREAM);
    socket.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, 1e-9);
    console.log(socket.getsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO) > 0);
    socket.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, 0);
    console.log(socket.getsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO));
  });
  assertEquals(output, "SIGALRM\ntrue\ntrue\n0\n");
});

Deno.test("setitimer() sends the signal again at each interval, until it is set to 0", async () => {
  const output = await run(() => {
    tine.becomeForkable({ signals: [tine.SIGALRM] });
    let count = 0;
    tine.signal(tine.SIGALRM, () => count++);
    tine.setitimer(tine.ITIMER_REAL, 0.02, 0.01);
    while (count < 3) tine.sleep(10);
    console.log(tine.setitimer(tine.ITIMER_REAL, 0).interval);
    console.log(JSON.stringify(tine.setitimer(tine.ITIMER_REAL, 0)));
  });
  assertEquals(output, '0.01\n{"value":0,"interval":0}\n');
  for (const time of [-1, NaN]) {
    assertThrows(() => tine.setitimer(tine.ITIMER_REAL, time), RangeError, "Cannot setitimer");
    assertThrows(() => tine.setitimer(tine.ITIMER_REAL, 0, time), RangeError);
  }
  assertThrows(() => tine.setitimer(99, 1), tine.SyscallError, "Cannot setitimer 99: EINVAL");
});

Deno.test("clock_gettime() of CLOCK_MONOTONIC is the same for all processes", async () => {
  const now = () => tine.clock_gettime(tine.CLOCK_MONOTONIC);
  const before = now();
  const meanwhile = Number(await run(() => console.log(tine.clock_gettime(tine.CLOCK_MONOTONIC))));
  const after = now();
  assert(before < meanwhile && meanwhile < after, `${before} ${meanwhile} ${after}`);
  assertThrows(() => tine.clock_gettime(99), tine.SyscallError, "Cannot clock_gettime 99: EINVAL");
});

Deno.test("setsid() creates a new session", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const child = tine.forkChild(() => tine.setsid() === tine.getpid() ? 0 : 1);
    console.log(JSON.stringify(tine.waitpid(child).status));
    // The leader of a process group cannot.
    const leader = tine.forkChild(() => {
      tine.setsid();
      try {
        tine.setsid();
      } catch (error) {
        return error instanceof tine.SyscallError && error.code === "EPERM" ? 0 : 1;
      }
    });
    console.log(JSON.stringify(tine.waitpid(leader).status));
  });
  assertEquals(output, '{"kind":"exited","code":0,"raw":0}\n'.repeat(2));
});

Deno.test("sched_setscheduler() sets the policy that the kernel shows", async () => {
  const output = await run(
    () => {
      for (const policy of [tine.SCHED_BATCH, tine.SCHED_OTHER]) {
        tine.sched_setscheduler(0, policy);
        const stat = Deno.readTextFileSync("/proc/thread-self/stat");
        // Without pid and name it is the 39th.
        console.log(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[38]);
      }
      try {
        tine.sched_setscheduler(0, 99);
      } catch (error) {
        console.log((error as Error).message);
      }
    },
    [],
    { flags: ["--allow-all"] },
  );
  assertEquals(
    output,
    "3\n0\nCannot sched_setscheduler 0 to policy 99: EINVAL (Invalid argument)\n",
  );
});

Deno.test("prctl() makes a child end with its parent", async () => {
  await using program = startFunction(() => {
    tine.becomeForkable();
    tine.forkChild(() => {
      tine.prctl(tine.PR_SET_PDEATHSIG, tine.SIGKILL);
      console.log(`child ${tine.getpid()}`);
      for (;;) tine.sleep(60);
    });
    tine.wait();
  });
  const child = Number((await program.printed(/child (\d+)/))[1]);
  program.kill("SIGKILL");
  await until(() => !isRunning(child), "the child's end");
  assertThrows(() => tine.prctl(-1), tine.SyscallError, "EINVAL");
});

Deno.test({
  name: "setuid() and setgid() give up root for good",
  // Root is what is given up; an ordinary user is refused, see below.
  fn: async () => {
    const output = await run(() => {
      tine.becomeForkable();
      const child = tine.forkChild(() => {
        try {
          tine.setgid(54321);
          tine.setuid(54321);
          console.log(tine.getuid(), tine.getgid());
          tine.setuid(0);
        } catch (error) {
          console.log(String(error));
        }
      });
      tine.waitpid(child);
    });
    const expected = Deno.uid() === 0
      ? "54321 54321\nSyscallError: Cannot setuid 0: EPERM (Operation not permitted)\n"
      : "SyscallError: Cannot setgid 54321: EPERM (Operation not permitted)\n";
    assertEquals(output, expected);
    assertThrows(() => tine.setuid(-1), RangeError);
  },
});

const EPERM = "Operation not permitted";

Deno.test("setgroups() changes the groups of all threads, and getgroups() returns them", async () => {
  const program = () => {
    const shown = () => {
      const tids = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => name);
      const groups = tids.map((tid) =>
        Deno.readTextFileSync(`/proc/self/task/${tid}/status`).match(/^Groups:\t(.*?) *$/m)![1]
      );
      return `${tids.length > 1 ? "all" : "one"}: ${[...new Set(groups)].join(" and ")}`;
    };
    console.log(shown() === `all: ${tine.getgroups().join(" ")}`);
    try {
      for (const groups of [[54321, 20, 4], []]) {
        tine.setgroups(groups);
        console.log(tine.getgroups().join(), shown());
      }
    } catch (error) {
      console.log(String(error));
    }
  };
  assertEquals(
    await run(program, [], { flags: ["-A"] }),
    Deno.uid() === 0
      ? "true\n4,20,54321 all: 4 20 54321\n all: \n"
      : `true\nSyscallError: Cannot setgroups 54321 20 4: EPERM (${EPERM})\n`,
  );
  assertThrows(() => tine.setgroups([0, -1]), RangeError, "Cannot setgroups -1");
  assertThrows(() => tine.setgroups([2 ** 32 - 1]), RangeError);
});

Deno.test({
  name: "a child that gives up root keeps the groups of setgroups(), and can have no others",
  ignore: Deno.uid() !== 0, // who has nothing to give up is refused, see above
  fn: async () => {
    const file = Deno.makeTempFileSync();
    Deno.writeTextFileSync(file, "for group 54322 only");
    Deno.chownSync(file, 0, 54322);
    Deno.chmodSync(file, 0o040);
    try {
      const output = await run(() => {
        tine.becomeForkable();
        for (const groups of [[54322], []]) {
          tine.waitpid(tine.forkChild(() => {
            tine.setgroups(groups);
            tine.setgid(54321);
            tine.setuid(54321);
            const read = (path: string) =>
              new TextDecoder().decode(tine.open(path, tine.O_RDONLY).read(4096));
            for (
              const attempt of [
                () => read("/proc/self/status").match(/^Groups:\t(.*?) *$/m)![1],
                () => read(Deno.args[0]!),
                () => tine.setgroups([0]),
                () => tine.initgroups("root", 0),
              ]
            ) {
              try {
                console.log(attempt());
              } catch (error) {
                console.log((error as tine.SyscallError).code);
              }
            }
          }));
        }
      }, [file]);
      assertEquals(output.trim().split("\n"), [
        ...["54322", "for group 54322 only", "EPERM", "EPERM"],
        ...["", "EACCES", "EPERM", "EPERM"],
      ]);
    } finally {
      Deno.removeSync(file);
    }
  },
});

Deno.test("initgroups() sets the groups that the system lists for a user", async () => {
  const id = (...args: string[]) =>
    new TextDecoder().decode(
      new Deno.Command("id", { args, env: { LC_ALL: "C" } }).outputSync().stdout,
    )
      .trim();
  // Somebody whom a group lists, if there is anybody.
  const listed = Deno.readTextFileSync("/etc/group").match(/^(?:[^:]*:){3}([^,\s]+)/m)?.[1];
  const user = listed ?? "nobody";
  const output = await run(() => {
    try {
      tine.initgroups(Deno.args[0]!, Number(Deno.args[1]));
      console.log(tine.getgroups().join(" "));
    } catch (error) {
      console.log(String(error));
    }
  }, [user, id("-g", user)]);
  const groups = id("-G", user).split(" ").map(Number).toSorted((a, b) => a - b).join(" ");
  assertEquals(
    output,
    Deno.uid() === 0
      ? `${groups}\n`
      : `SyscallError: Cannot initgroups ${user}: EPERM (${EPERM})\n`,
  );
  assertThrows(() => tine.initgroups("nobody", -1), RangeError, "Cannot initgroups -1");
  assertThrows(() => tine.initgroups("a\0b", 0), TypeError, "NUL");
});

Deno.test("mmap() with MAP_SHARED is seen by parent and children", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const counter = new Int32Array(tine.mmap(4096, tine.MAP_SHARED | tine.MAP_ANONYMOUS));
    const children = Array.from({ length: 4 }, () =>
      tine.forkChild(() => {
        for (let i = 0; i < 10_000; i++) Atomics.add(counter, 0, 1);
      }));
    for (const child of children) tine.waitpid(child);
    console.log(counter[0], counter.byteLength);
  });
  assertEquals(output, "40000 4096\n");
  const anonymous = tine.MAP_SHARED | tine.MAP_ANONYMOUS;
  assertThrows(() => tine.mmap(0, anonymous), RangeError, "Cannot map 0 bytes");
  assertThrows(() => tine.mmap(1, tine.MAP_SHARED), tine.SyscallError, "EBADF");
  assertThrows(() => tine.mmap(1, tine.MAP_ANONYMOUS), tine.SyscallError, "mmap 1 bytes: EINVAL");
});

Deno.test("clock_gettime() of CLOCK_PROCESS_CPUTIME_ID counts work, but not waiting", async () => {
  const output = await run(
    () => {
      const cpuTime = () => tine.clock_gettime(tine.CLOCK_PROCESS_CPUTIME_ID);
      const before = cpuTime();
      const end = performance.now() + 10_000;
      // As the kernel counts: a busy machine may take long to give a tenth of a second.
      while (cpuTime() - before < 0.1 && performance.now() < end);
      const worked = cpuTime();
      tine.sleep(0.3);
      const slept = cpuTime() - worked;
      // utime and stime, in hundredths of a second.
      const stat = Deno.readTextFileSync("/proc/self/stat").replace(/^.*\) /s, "").split(" ");
      const seen = (Number(stat[11]) + Number(stat[12])) / 100;
      console.log(worked - before >= 0.1, slept < 0.2, cpuTime() - seen);
    },
    [],
    { flags: ["-A"] },
  );
  const [worked, slept, difference] = output.trim().split(" ");
  assertEquals([worked, slept], ["true", "true"], output);
  assert(Math.abs(Number(difference)) < 0.1, output);
});

Deno.test("sleep() returns 0 after the whole time, and rejects an invalid time", () => {
  const start = performance.now();
  assertEquals(tine.sleep(0.02), 0);
  tine.nanosleep(0.02);
  assert(performance.now() - start >= 39);
  assertThrows(() => tine.sleep(-1), RangeError, "Cannot sleep -1 seconds");
  assertThrows(() => tine.nanosleep(NaN), RangeError);
});

/** Returns the output of a Deno that claims another version and calls getpid(). */
async function pretend(build: { os: string; arch: string }, deno: string): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `Object.defineProperty(Deno, "build", { value: ${JSON.stringify(build)} });
       Object.defineProperty(Deno, "version", { value: { deno: "${deno}" } });
       const tine = await import("${new URL("../mod.ts", import.meta.url)}");
       try { console.log(typeof tine.getpid()); }
       catch (error) { console.log(error.name + ": " + error.message); }`,
    ],
  }).output();
  const decoder = new TextDecoder();
  return decoder.decode(stdout).trim() || decoder.decode(stderr);
}

const NEEDS = "UnsupportedPlatformError: tine needs Deno 2.4.4 or later on Linux with glibc, " +
  "x86-64 or aarch64: ";

Deno.test("another system gets UnsupportedPlatformError at the first call, not at import", async () => {
  const { deno } = Deno.version;
  const darwin = { os: "darwin", arch: "aarch64" };
  assertEquals(await pretend(darwin, deno), `${NEEDS}this is darwin`);
  const s390x = { os: "linux", arch: "s390x" };
  assertEquals(await pretend(s390x, deno), `${NEEDS}this processor is s390x`);
});

Deno.test("an old Deno gets UnsupportedPlatformError at the first call, not at import", async () => {
  for (const version of ["1.46.3", "2.0.6", "2.2.15", "2.2.15+a1b2c3d", "2.3.7"]) {
    assertEquals(await pretend(Deno.build, version), `${NEEDS}this is Deno ${version}`);
  }
  for (const version of ["2.4.4", "2.4.5", "2.10.0-rc.1", "2.10.0+a1b2c3d", "3.0.0"]) {
    assertEquals(await pretend(Deno.build, version), "number", version);
  }
});

Deno.test("without --allow-ffi the error names the permission", async () => {
  await using program = startFunction(() => tine.getpid(), [], { flags: ["--no-prompt"] });
  assertEquals((await program.ended()).code, 1);
  assert(program.stderr.includes("--allow-ffi"), program.stderr);
});
