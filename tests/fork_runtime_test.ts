import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { ROOT, run, scratch, start, startFunction, writeApp } from "./support.ts";

const MOD = new URL("mod.ts", ROOT).href;

const ALL = { flags: ["-A"] };

Deno.test("fork({ runtime: true }) gives the child a working event loop", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", onListen() {} },
        () => new Response(`parent ${tine.getpid()}`),
      );
      const parent = tine.getpid();
      const port = server.addr.port;
      // Leaves a connection in the parent's list, which the child must not use.
      await (await fetch(`http://127.0.0.1:${port}/`)).text();
      const pid = tine.fork({ runtime: true });
      if (pid === 0) {
        tine.alarm(30);
        const report = (what: string, ok: boolean) => console.log(what, ok);
        await new Promise((resolve) => setTimeout(resolve, 5));
        report("timer", true);
        const file = await Deno.makeTempFile();
        await Deno.writeTextFile(file, "async file");
        report("file", await Deno.readTextFile(file) === "async file");
        await Deno.remove(file);
        const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 128 }, true, [
          "encrypt",
        ]);
        report("webcrypto", (await crypto.subtle.exportKey("raw", key)).byteLength === 16);
        const digest = await crypto.subtle.digest("SHA-256", new Uint8Array(1000));
        report("digest", digest.byteLength === 32);
        const { stdout } = await new Deno.Command("echo", { args: ["sub"] }).output();
        report("command", new TextDecoder().decode(stdout) === "sub\n");
        const reply = await fetch(`http://127.0.0.1:${port}/`);
        report("fetch", await reply.text() === `parent ${parent}`);
        const own = Deno.serve(
          { port: 0, hostname: "127.0.0.1", onListen() {} },
          () => new Response("child"),
        );
        report(
          "serve",
          await (await fetch(`http://127.0.0.1:${own.addr.port}/`)).text() === "child",
        );
        await own.shutdown();
        const listener = Deno.listen({ port: 0, hostname: "localhost" });
        const [there, here] = await Promise.all([
          Deno.connect({ port: (listener.addr as Deno.NetAddr).port, hostname: "localhost" }),
          listener.accept(),
        ]);
        await there.write(new Uint8Array([1, 2, 3]));
        const bytes = new Uint8Array(3);
        await here.read(bytes);
        report("tcp and dns", bytes.join() === "1,2,3");
        there.close();
        here.close();
        listener.close();
        const worker = new Worker("data:application/javascript,postMessage('hi'); close();", {
          type: "module",
        });
        report(
          "worker",
          await new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data === "hi")),
        );
        const path = await import("node:path");
        report("import", typeof path.join === "function");
        const handled = new Promise<boolean>((resolve) =>
          Deno.addSignalListener("SIGUSR1", () => resolve(true))
        );
        Deno.kill(tine.getpid(), "SIGUSR1");
        report("signal listener", await handled);
        tine._exit(5);
      }
      // The parent's own loop continues while it waits.
      let status: tine.WaitStatus | undefined;
      let turns = 0;
      while (status === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        turns++;
        status = tine.waitpid(pid, tine.WNOHANG).status;
      }
      console.log("parent", JSON.stringify(status), turns > 1);
      console.log(await (await fetch(`http://127.0.0.1:${port}/`)).text() === `parent ${parent}`);
      await server.shutdown();
    },
    [],
    ALL,
  );
  const features =
    "timer,file,webcrypto,digest,command,fetch,serve,tcp and dns,worker,import,signal listener";
  assertEquals(output.trim().split("\n"), [
    ...features.split(",").map((name) => `${name} true`),
    'parent {"kind":"exited","code":5,"raw":1280} true',
    "true",
  ]);
});

Deno.test("a runtime child does not continue the parent's work, and has none of its sockets", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const parent = tine.getpid();
      const foreign: string[] = [];
      const watch = (what: string) => {
        if (tine.getpid() !== parent) foreign.push(what);
      };
      const interval = setInterval(() => watch("interval"), 1);
      const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, () => {
        watch("server");
        return new Response("x");
      });
      const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
      listener.accept().then(() => watch("accept"), () => watch("accept failed"));
      const client = await Deno.connect({ port: server.addr.port, hostname: "127.0.0.1" });
      client.read(new Uint8Array(10)).then(() => watch("read"), () => watch("read failed"));
      const command = new Deno.Command("sleep", { args: ["60"], stdout: "piped" }).spawn();
      command.status.then(() => watch("command"));
      await new Promise((resolve) => setTimeout(resolve, 20));
      const pid = await tine.forkRuntimeChild(async () => {
        for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 5));
        const sockets = [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
          try {
            return Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:");
          } catch {
            return false;
          }
        });
        const inodes = new Set(
          sockets.map(({ name }) => Deno.readLinkSync(`/proc/self/fd/${name}`)),
        );
        // tcp sockets of this process: none may be among its descriptors
        const tcp = Deno.readTextFileSync("/proc/self/net/tcp").split("\n").slice(1)
          .map((line) => line.trim().split(/\s+/)[9]).filter((inode) =>
            inodes.has(`socket:[${inode}]`)
          );
        console.log("foreign", JSON.stringify(foreign), "tcp", tcp.length);
      });
      let status: tine.WaitStatus | undefined;
      while ((status = tine.waitpid(pid, tine.WNOHANG).status) === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      console.log(JSON.stringify(status));
      // All of it still works in the parent.
      console.log(await (await fetch(`http://127.0.0.1:${server.addr.port}/`)).text());
      command.kill("SIGKILL");
      console.log((await command.status).signal);
      clearInterval(interval);
      client.close();
      listener.close();
      await server.shutdown();
    },
    [],
    ALL,
  );
  assertEquals(output.trim().split("\n"), [
    "foreign [] tcp 0",
    '{"kind":"exited","code":0,"raw":0}',
    "x",
    "SIGKILL",
  ]);
});

Deno.test("the client of a connection sees its end even if runtime children exist", async () => {
  // Lesson 3d, for sockets that Deno itself holds.
  const output = await run(
    async () => {
      tine.becomeForkable();
      const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
      const [client, server] = await Promise.all([
        Deno.connect({ port: (listener.addr as Deno.NetAddr).port, hostname: "127.0.0.1" }),
        listener.accept(),
      ]);
      const pid = await tine.forkRuntimeChild(async () => {
        await new Promise((resolve) => setTimeout(resolve, 60_000));
      });
      server.close();
      console.log(await client.read(new Uint8Array(1)));
      tine.kill(pid, tine.SIGKILL);
      tine.waitpid(pid);
      client.close();
      listener.close();
    },
    [],
    ALL,
  );
  assertEquals(output, "null\n");
});

Deno.test("a client of `Deno.createHttpClient()` has connections of its own in each runtime child", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", onListen() {} },
        (request, { remoteAddr }) =>
          new Response(`${remoteAddr.port} ${new URL(request.url).host}`),
      );
      const client = Deno.createHttpClient({
        proxy: { url: `http://127.0.0.1:${server.addr.port}` },
      });
      // Only through the proxy is there such a host.
      const ask = async () => await (await fetch("http://nowhere.invalid/", { client })).text();
      const before = await ask();
      const forkAndAsk = async (known: string[], next: (known: string[]) => Promise<void>) => {
        const pid = await tine.forkRuntimeChild(async () => {
          tine.alarm(20);
          const own = await ask();
          console.log(!known.includes(own), own.endsWith(" nowhere.invalid"), own === await ask());
          await next([...known, own]);
        });
        while (tine.waitpid(pid, tine.WNOHANG).status === undefined) {
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      await forkAndAsk([before], (known) => forkAndAsk(known, () => Promise.resolve()));
      console.log("parent", before === await ask());
      tine._exit(0);
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(output, "true true true\ntrue true true\nparent true\n");
});

Deno.test("200 runtime children with files, WebCrypto, DNS, a subprocess and fetch: none fails", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", onListen() {} },
        () => new Response("ok"),
      );
      let ticks = 0;
      let longest = 0;
      let last = performance.now();
      const timer = setInterval(() => {
        ticks++;
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }, 10);
      let succeeded = 0;
      let running = 0;
      const reap = () => {
        for (;;) {
          if (running === 0) return;
          const { pid, status } = tine.waitpid(-1, tine.WNOHANG);
          if (pid === 0) return;
          running--;
          if (status?.kind === "exited" && status.code === 0) succeeded++;
          else console.log(JSON.stringify(status));
        }
      };
      for (let i = 0; i < 200; i++) {
        await tine.forkRuntimeChild(async () => {
          tine.alarm(60);
          const file = await Deno.makeTempFile();
          await Deno.writeTextFile(file, `child ${i}`);
          const [text, digest, addresses, command, reply] = await Promise.all([
            Deno.readTextFile(file),
            crypto.subtle.digest("SHA-256", new Uint8Array(100)),
            // A name goes through getaddrinfo(3), on the pool.
            Deno.connect({ hostname: "localhost", port: server.addr.port }),
            i % 4 === 0 ? new Deno.Command("true").output() : { success: true },
            fetch(`http://localhost:${server.addr.port}/`).then((response) => response.text()),
          ]);
          addresses.close();
          await Deno.remove(file);
          const ok = text === `child ${i}` && digest.byteLength === 32 && command.success &&
            reply === "ok";
          return ok ? 0 : 1;
        });
        running++;
        reap();
        while (running >= 4) {
          await new Promise((resolve) => setTimeout(resolve, 2));
          reap();
        }
      }
      while (running > 0) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        reap();
      }
      clearInterval(timer);
      console.log(succeeded, ticks > 50, longest < 5000);
      await server.shutdown();
    },
    [],
    ALL,
  );
  assertEquals(output, "200 true true\n");
});

Deno.test("runtime children work from a loop that never returns to the event loop", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      await Deno.readTextFile("/etc/passwd"); // the pool has threads
      const codes: number[] = [];
      for (let i = 0; i < 20; i++) {
        const pid = tine.fork({ runtime: true });
        if (pid === 0) {
          await Deno.readTextFile("/etc/passwd");
          tine._exit(i);
        }
        const { status } = tine.waitpid(pid);
        codes.push(status?.kind === "exited" ? status.code : -1);
      }
      console.log(codes.join());
      console.log((await Deno.readTextFile("/etc/passwd")).length > 0);
    },
    [],
    ALL,
  );
  assertEquals(output, `${Array.from({ length: 20 }, (_, i) => i).join()}\ntrue\n`);
});

Deno.test("a runtime child can fork runtime children of its own", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const pid = await tine.forkRuntimeChild(async () => {
        await Deno.readTextFile("/etc/passwd");
        const grandchild = await tine.forkRuntimeChild(async () => {
          const { size } = await Deno.stat("/etc/passwd");
          return size > 0 ? 6 : 1;
        });
        for (;;) {
          const { status } = tine.waitpid(grandchild, tine.WNOHANG);
          if (status !== undefined) return status.kind === "exited" ? status.code : 1;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      });
      console.log(JSON.stringify(tine.waitpid(pid).status));
    },
    [],
    ALL,
  );
  assertEquals(output, '{"kind":"exited","code":6,"raw":1536}\n');
});

Deno.test("uncaught errors in a runtime child are printed and end it with exit code 1", async () => {
  await using program = startFunction(
    async () => {
      tine.becomeForkable();
      for (const kind of ["thrown", "rejected", "in a timer"]) {
        const pid = await tine.forkRuntimeChild(async () => {
          if (kind === "thrown") throw new Error(`boom ${kind}`);
          if (kind === "rejected") Promise.reject(new Error(`boom ${kind}`));
          if (kind === "in a timer") {
            setTimeout(() => {
              throw new Error(`boom ${kind}`);
            }, 0);
          }
          await new Promise((resolve) => setTimeout(resolve, 30_000));
        });
        console.log(kind, JSON.stringify(tine.waitpid(pid).status));
      }
      const pid = tine.fork({ runtime: true });
      if (pid === 0) throw new Error("boom in the Unix form");
      console.log(JSON.stringify(tine.waitpid(pid).status));
    },
    [],
    ALL,
  );
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout.match(/"code":1,/g)?.length, 4, program.stdout);
  for (const kind of ["thrown", "rejected", "in a timer", "in the Unix form"]) {
    assertStringIncludes(program.stderr, `Error: boom ${kind}`);
  }
});

Deno.test("Deno.exit() ends a runtime child with its code", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const pid = await tine.forkRuntimeChild(async () => {
        await Deno.readTextFile("/etc/passwd");
        Deno.exit(4);
      });
      console.log(JSON.stringify(tine.waitpid(pid).status));
    },
    [],
    ALL,
  );
  assertEquals(output, '{"kind":"exited","code":4,"raw":1024}\n');
});

Deno.test("fork({ runtime: true }) works while the parent waits for its standard input", async () => {
  await using program = startFunction(
    async () => {
      tine.becomeForkable();
      const input = Deno.stdin.read(new Uint8Array(100));
      const pid = await tine.forkRuntimeChild(async () =>
        (await Deno.readTextFile("/etc/passwd")).length > 0 ? 0 : 1
      );
      console.log(JSON.stringify(tine.waitpid(pid).status));
      console.log(await input);
    },
    [],
    { ...ALL, shell: "(sleep 1; echo hello) |" },
  );
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertMatch(program.stdout, /^{"kind":"exited","code":0,"raw":0}\n6\n$/);
});

Deno.test("fork({ runtime: true }) throws, and does not fork, if the pool does not become idle", async () => {
  await using program = startFunction(
    async () => {
      tine.becomeForkable();
      // A password hash keeps a thread of the pool computing for seconds.
      const { pbkdf2 } = await import("node:crypto");
      let done = false;
      pbkdf2("password", "salt", 12_000_000, 64, "sha512", () => done = true);
      try {
        const pid = await tine.forkRuntimeChild(async () => {});
        console.log("forked", pid, done);
      } catch (error) {
        console.log((error as Error).message);
      }
      try {
        tine.waitpid(-1, tine.WNOHANG);
      } catch (error) {
        console.log(String(error));
      }
      tine._exit(0);
    },
    [],
    ALL,
  );
  assertEquals((await program.ended(60_000)).code, 0, program.stderr);
  assertMatch(
    program.stdout,
    /^Cannot fork with a runtime: \d+ of its threads did not become idle/,
  );
  assertStringIncludes(program.stdout, "ECHILD");
});

Deno.test("a thread of the pool that waits for a lock is not mistaken for one of another pool", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { symbols } = Deno.dlopen("libc.so.6", {
        sem_init: { parameters: ["buffer", "i32", "u32"], result: "i32" },
        sem_wait: { parameters: ["buffer"], result: "i32", nonblocking: true },
        sem_post: { parameters: ["buffer"], result: "i32" },
      });
      const child = async () => {
        await Deno.readTextFile("/etc/passwd");
      };
      const lock = new Uint8Array(32);
      symbols.sem_init(lock, 0, 0);
      const waiting = symbols.sem_wait(lock); // as a thread does that is idle, in a futex
      const first = tine.waitpid(await tine.forkRuntimeChild(child))?.status;
      symbols.sem_post(lock);
      await waiting; // the thread is idle now, behind those that were idle before
      const second = tine.waitpid(await tine.forkRuntimeChild(child))?.status;
      console.log(first?.raw, second?.raw);
    },
    [],
    ALL,
  );
  assertEquals(output, "0 0\n");
});

Deno.test("a child's pool works if a thread of its parent's became idle just before the fork", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { symbols } = Deno.dlopen("libc.so.6", {
        usleep: { parameters: ["u32"], result: "i32", nonblocking: true },
      });
      const child = async () => {
        await Deno.readTextFile("/etc/passwd");
      };
      let hung = 0;
      // A thread counts as at rest after 50 ms in one call. What the fork does until then varies.
      for (let ms = 50; ms < 60; ms += 0.25) {
        const sleeping = symbols.usleep(ms * 1000);
        const pid = await tine.forkRuntimeChild(child);
        const end = performance.now() + 10_000;
        while (tine.waitpid(pid, tine.WNOHANG).status === undefined) {
          if (performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
          else {
            hung++;
            tine.kill(pid, tine.SIGKILL);
            tine.waitpid(pid);
            break;
          }
        }
        await sleeping;
      }
      console.log(hung);
    },
    [],
    ALL,
  );
  assertEquals(output, "0\n");
});

Deno.test("a child that cannot start its runtime ends with an error, and never throws into the parent's code", async () => {
  await using program = startFunction(
    () => {
      tine.becomeForkable();
      const { hard } = tine.getrlimit(tine.RLIMIT_NOFILE);
      // Room to look at the threads and the descriptors, one file at a time; the child needs a
      // socket pair.
      const file = tine.open("/dev/null", tine.O_RDONLY);
      const lowest = file.fileno();
      file.close();
      tine.setrlimit(tine.RLIMIT_NOFILE, { soft: lowest + 1, hard });
      const parent = tine.getpid();
      try {
        const pid = tine.fork({ runtime: true });
        if (pid !== 0) console.log(JSON.stringify(tine.waitpid(pid).status));
      } catch {
        console.log(tine.getpid() === parent ? "in the parent" : "in the child");
      }
      tine._exit(0);
    },
    [],
    ALL,
  );
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout, '{"kind":"exited","code":1,"raw":256}\n', program.stderr);
  assertStringIncludes(
    program.stderr,
    "cannot start its runtime: SyscallError: Cannot socketpair: EMFILE",
  );
});

Deno.test("fork({ runtime: true }) throws while a child could not create pool threads", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      // Each uses a thread of the pool, up to the maximum.
      await Promise.all(Array.from({ length: 500 }, () => Deno.readTextFile("/proc/self/smaps")));
      const fork = () => {
        try {
          return tine.fork({ runtime: true });
        } catch (error) {
          return (error as Error).message;
        }
      };
      const first = fork();
      if (first === 0) tine._exit(1);
      console.log(first);
      const end = performance.now() + 30_000;
      let pid = first;
      while (typeof pid === "string" && performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 200));
        pid = fork();
      }
      if (pid === 0) {
        const texts = Array.from({ length: 100 }, () => Deno.readTextFile("/proc/self/stat"));
        tine._exit((await Promise.all(texts)).length);
      }
      console.log(tine.waitpid(Number(pid)).status);
    },
    [],
    { flags: ["-A"] },
  );
  assertMatch(
    output,
    /^Cannot fork with a runtime: this process has so many threads in the runtime's pool/,
  );
  assertMatch(output, /\n\{ kind: "exited", code: 100, raw: 25600 \}\n$/);
});

Deno.test("forkRuntimeChild() waits until a child can create pool threads", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      // Each uses a thread of the pool, up to the maximum.
      await Promise.all(Array.from({ length: 500 }, () => Deno.readTextFile("/proc/self/smaps")));
      const pid = await tine.forkRuntimeChild(async () => {
        const texts = Array.from({ length: 100 }, () => Deno.readTextFile("/proc/self/stat"));
        return (await Promise.all(texts)).length;
      });
      console.log(tine.waitpid(pid).status?.raw);
    },
    [],
    ALL,
  );
  assertEquals(output, `${100 << 8}\n`);
});

Deno.test("a child counts the threads of its pool in addition to its parent's", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { poolRoom } = await import(Deno.args[0]!);
      const { readAsync } = await import(Deno.args[1]!);
      /** Gives the pool this many operations at a time, and waits until it has the threads. */
      const occupy = async (count: number, room: number) => {
        const [readEnd, writeEnd] = tine.pipe();
        const reads = Array.from({ length: count }, () => readAsync(readEnd.fileno(), 1));
        const end = performance.now() + 10_000;
        while (poolRoom() !== room && performance.now() < end) tine.sleep(0.001);
        writeEnd.write(new Uint8Array(count));
        await Promise.all(reads);
        console.log(poolRoom());
      };
      await occupy(27, 5);
      const pid = await tine.forkRuntimeChild(async () => {
        await occupy(2, 3);
        try {
          if (tine.fork({ runtime: true }) === 0) tine._exit(0);
        } catch (error) {
          console.log((error as Error).message);
        }
      });
      tine.waitpid(pid);
      tine._exit(0);
    },
    ["pool.ts", "read_async.ts"].map((name) =>
      new URL(`../ffi/runtime/${name}`, import.meta.url).href
    ),
    ALL,
  );
  assertMatch(output, /^5\n3\nCannot fork with a runtime: this process has so many threads/);
});

Deno.test("fork({ runtime: true }) touches few new pages in the parent", async () => {
  const faults = Number(
    await run(
      () => {
        tine.becomeForkable();
        // A page fault for each page that the parent writes to after a fork, or for the first time.
        const faults = () =>
          Number(Deno.readTextFileSync("/proc/self/stat").split(") ")[1]!.split(" ")[7]);
        const fork = (count: number) => {
          for (let i = 0; i < count; i++) {
            const pid = tine.fork({ runtime: true });
            if (pid === 0) tine._exit(0);
            tine.waitpid(pid);
          }
        };
        fork(20);
        const before = faults();
        fork(50);
        console.log((faults() - before) / 50);
      },
      [],
      ALL,
    ),
  );
  assert(faults < 250, `${faults} page faults per fork`); // 170; 330 with a buffer for each file
});

Deno.test("a subprocess does not inherit the pipes in which the pool's threads are parked", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      /** The pipes of which a process has the end with these permissions. */
      const pipesOf = (process: string | number, permissions: string) => {
        const args = ["-l", `/proc/${process}/fd`];
        const { stdout } = new Deno.Command("ls", { args }).outputSync();
        const lines = new TextDecoder().decode(stdout).split("\n");
        return new Set(
          lines.filter((line) => line.startsWith(permissions))
            .flatMap((line) => line.match(/pipe:\[\d+\]/) ?? []),
        );
      };
      const parking = pipesOf(tine.getpid(), "lr-x").intersection(pipesOf(tine.getpid(), "l-wx"));
      console.log(parking.size, "pipes");
      const inherits = () => !pipesOf("self", "l").isDisjointFrom(parking);
      await Deno.readTextFile("/etc/passwd"); // the pool has threads
      const pid = await tine.forkRuntimeChild(() => {
        console.log("child", inherits());
        return Promise.resolve();
      });
      console.log("parent, parked", inherits());
      tine.waitpid(pid);
      tine._exit(0);
    },
    [],
    ALL,
  );
  assertEquals(output.trimEnd().split("\n").sort(), [
    "2 pipes",
    "child false",
    "parent, parked false",
  ]);
});

Deno.test("events of a child wake no event loop other than its own", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { readAsync } = await import(Deno.args[0]!);
      await Deno.readTextFile("/etc/passwd"); // the pool has threads
      const wakeUps = () =>
        Number(
          Deno.readTextFileSync("/proc/self/status").match(
            /^voluntary_ctxt_switches:\s*(\d+)/m,
          )![1],
        );
      const READS = 200;
      const [readEnd, writeEnd] = tine.pipe();
      const writer = tine.forkChild(() => {
        for (let i = 0; i < READS; i++) {
          tine.sleep(0.002);
          writeEnd.write(new Uint8Array(1));
        }
      });
      // Each byte wakes the child's loop, from a thread of its pool.
      const pid = await tine.forkRuntimeChild(async () => {
        for (let i = 0; i < READS; i++) await readAsync(readEnd.fileno(), 1);
      });
      const before = wakeUps();
      // Its end comes as a signal, which is blocked: nothing wakes the parent but its own timer.
      let turns = 0;
      while (tine.waitpid(pid, tine.WNOHANG).status === undefined) {
        turns++;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      console.log(wakeUps() - before < READS / 4 + 5 * turns);
      tine.waitpid(writer);
      tine._exit(0);
    },
    [new URL("../ffi/runtime/read_async.ts", import.meta.url).href],
    ALL,
  );
  assertEquals(output, "true\n");
});

for (const kind of ["runtime", "plain"]) {
  Deno.test(`alternating ${kind} forks and file operations do not create more threads`, async () => {
    const output = await run(
      async () => {
        tine.becomeForkable();
        const threads = () =>
          [...Deno.readDirSync("/proc/self/task")].map(({ name }) => {
            try {
              return Deno.readTextFileSync(`/proc/self/task/${name}/comm`);
            } catch {
              return ""; // it has ended in the meantime
            }
          }).filter((name) => name.startsWith("tokio-r")).length;
        // A start on a busy machine makes many, which end after ten seconds without work.
        while (threads() > 12) await new Promise((resolve) => setTimeout(resolve, 200));
        for (let i = 0; i < 40; i++) {
          const pid = tine.fork({ runtime: Deno.args[0] === "runtime" });
          if (pid === 0) tine._exit(0);
          await Deno.readTextFile("/proc/self/stat");
          tine.waitpid(pid);
        }
        console.log(threads());
      },
      [kind],
      { flags: ["-A"] },
    );
    assert(Number(output) < 24, output); // of 32
  });
}

for (const when of ["before the first fork", "between two forks"]) {
  Deno.test(`a child that was forked where the parent had begun to watch files ${when} gets an error from Deno.watchFs()`, async () => {
    const output = await run(
      async () => {
        tine.becomeForkable();
        const folder = Deno.makeTempDirSync({ prefix: "tine_test_" });
        const watchInChild = async () => {
          tine.alarm(20); // it would wait for ever
          try {
            const watcher = Deno.watchFs(folder);
            Deno.writeTextFileSync(`${folder}/file`, "");
            for await (const { kind } of watcher) {
              console.log("child", kind);
              break;
            }
          } catch (error) {
            console.log("child", (error as Error).message.replace(folder, "folder"));
          }
        };
        // Where the parent has not watched anything, the child can.
        if (Deno.args[0] === "between two forks") {
          tine.waitpid(await tine.forkRuntimeChild(watchInChild));
          Deno.removeSync(`${folder}/file`);
        }
        const watcher = Deno.watchFs(folder);
        const statuses = [
          await tine.forkRuntimeChild(watchInChild),
          tine.forkChild(() => {
            tine.alarm(20);
            try {
              Deno.watchFs("/tmp");
            } catch (error) {
              console.log((error as Error).message.startsWith("Cannot watch /tmp in this child"));
            }
          }),
        ].map((pid) => tine.waitpid(pid).status?.raw);
        console.log(statuses.join());
        // The parent's own goes on.
        Deno.writeTextFileSync(`${folder}/own`, "");
        for await (const { kind, paths } of watcher) {
          if (paths[0]?.endsWith("/own")) {
            console.log("parent", kind);
            break;
          }
        }
        Deno.removeSync(folder, { recursive: true });
        Deno.exit();
      },
      [when],
      ALL,
    );
    const lines = output.trim().split("\n");
    if (when === "between two forks") assertEquals(lines.shift(), "child create");
    assertEquals(lines.toSorted(), [
      "0,0",
      "child Cannot watch folder in this child: Deno started its thread for watching files before the " +
      "fork, in the parent. Watch files in the child only, and not under --watch",
      "parent create",
      "true",
    ]);
  });
}

/** Runs a program under --watch until it has printed "done". */
async function runWatched(text: string): Promise<{ stdout: string; stderr: string }> {
  await using folder = scratch();
  writeApp(folder.path, "export const one: number = 1;", "one.ts");
  writeApp(folder.path, 'postMessage("works")', "worker.ts");
  const program = writeApp(
    folder.path,
    `import * as tine from ${JSON.stringify(MOD)};
    tine.becomeForkable();
    const wait = () => new Promise((resolve) => setTimeout(resolve, 1));
    ${text}
    console.log("done");
    Deno.exit();`,
    "program.ts",
  );
  await using started = start(program, [], { flags: ["-A", "--watch"] });
  await started.printed(/^done$/m, 60_000);
  return { stdout: started.stdout, stderr: started.stderr };
}

Deno.test("under --watch, a runtime child goes on after what its parent has imported just before the fork", async () => {
  const { stdout } = await runWatched(`
    for (let i = 0; i < 20; i++) {
      Deno.writeTextFileSync(new URL("own" + i + ".ts", import.meta.url), "");
      if (i > 0) await import("./own" + i + ".ts"); // before the first fork, only the program itself
      const pid = await tine.forkRuntimeChild(async () => {
        tine.alarm(20);
        await wait();
        if ((await import("./one.ts")).one === 1) return 7;
      });
      const { status } = tine.waitpid(pid);
      if (status.code !== 7) throw new Error("a child ended with " + status.raw);
    }`);
  assertEquals(stdout, "done\n");
});

Deno.test("under --watch, a runtime child that imports what its parent does not know ends instead of hanging", async () => {
  const { stdout, stderr } = await runWatched(`
    for (let i = 0; i < 2; i++) {
      const pid = await tine.forkRuntimeChild(async () => {
        tine.alarm(20); // it would wait forever
        Deno.writeTextFileSync(new URL("new.ts", import.meta.url), "");
        await import("./ne" + "w.ts");
        for (;;) await wait();
      });
      console.log(tine.waitpid(pid).status.raw);
    }`);
  assertEquals(stdout, "256\n256\ndone\n");
  const warnings = stderr.match(/^warning: Under --watch, a forked child ends with an error/gm);
  assertEquals(warnings?.length, 1, stderr);
});

Deno.test("under --watch, a runtime child gets an error from Worker, which would never return", async () => {
  const { stdout } = await runWatched(`
    const startWorker = async () => {
      tine.alarm(20);
      try {
        const worker = new Worker(import.meta.resolve("./worker.ts"), { type: "module" });
        const message = new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
        console.log(await message);
        worker.terminate();
      } catch (error) {
        console.log(error.message.replace(/file:\\S+\\//, ""));
      }
    };
    tine.waitpid(await tine.forkRuntimeChild(startWorker));
    await startWorker();`);
  assertEquals(
    stdout,
    "Cannot start the worker worker.ts in this child: under --watch, Deno would wait for its " +
      "thread for watching files, which only the parent has\nworks\ndone\n",
  );
});

Deno.test("a child with a runtime waits for _exit(), and that of forkRuntimeChild() ends with its promise", async () => {
  const output = await run(async () => {
    tine.becomeForkable();
    const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
    const pid = tine.fork({ runtime: true });
    if (pid === 0) {
      setTimeout(() => writeEnd.write(new Uint8Array(1))); // the last thing that it has to do
      return;
    }
    readEnd.read(1);
    tine.sleep(0.2);
    console.log(tine.waitpid(pid, tine.WNOHANG).pid);
    tine.kill(pid, tine.SIGKILL);
    tine.waitpid(pid);
    const other = await tine.forkRuntimeChild(() => new Promise((resolve) => setTimeout(resolve)));
    console.log(JSON.stringify(tine.waitpid(other).status));
  });
  assertEquals(output, '0\n{"kind":"exited","code":0,"raw":0}\n');
});

Deno.test("under --watch, fork({ runtime: true }) throws until a child would not hang at its first turn", async () => {
  const { stdout } = await runWatched(`
    const forkTimer = async () => {
      const pid = tine.fork({ runtime: true });
      if (pid === 0) {
        tine.alarm(20);
        await wait();
        tine._exit(7);
      }
      console.log(tine.waitpid(pid).status.code);
    };
    await forkTimer().catch(({ message }) => console.log(message));
    console.log(tine.waitpid(await tine.forkRuntimeChild(async () => 7)).status.code);
    await forkTimer();`);
  // It forks at once if Deno has been quick.
  assertMatch(
    stdout,
    /^(Cannot fork with a runtime under --watch before Deno watches the program's files, .*|7)\n7\n7\ndone\n$/,
  );
});

Deno.test("--watch as an argument of the program's own changes nothing", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const pid = tine.fork({ runtime: true });
      if (pid === 0) {
        const worker = new Worker("data:text/javascript,postMessage('works')", { type: "module" });
        console.log(await new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data)));
        tine._exit(0);
      }
      tine.waitpid(pid);
    },
    ["--watch"],
    ALL,
  );
  assertEquals(output, "works\n");
});
