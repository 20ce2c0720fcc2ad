/** V8's worker threads in children, seen in `/proc`. */
import { assert, assertEquals } from "@std/assert";
import * as tine from "../mod.ts";
import { ROOT, run, scratch } from "./support.ts";

Deno.test("a child with a runtime has V8's threads, and so has its own child", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
      const main = Deno.readTextFileSync("/proc/self/comm");
      const isNamed = ({ name }: Deno.DirEntry) =>
        Number(name) === tine.getpid() ||
        Deno.readTextFileSync(`/proc/self/task/${name}/comm`) !== main;
      /** How many there are, and how many of them block all signals. */
      const show = () => {
        while (![...Deno.readDirSync("/proc/self/task")].every(isNamed)); // they have just started
        const texts = [...Deno.readDirSync("/proc/self/task")]
          .map(({ name }) => Deno.readTextFileSync(`/proc/self/task/${name}/status`))
          .filter((text) => text.startsWith("Name:\tV8 "));
        const deaf = texts.filter((text) => /^SigBlk:\tf{7}e7ffbfeff$/m.test(text));
        console.log(texts.length, deaf.length);
      };
      show();
      const pid = await tine.forkRuntimeChild(async () => {
        show();
        tine.waitpid(await tine.forkRuntimeChild(() => Promise.resolve(show())));
      });
      tine.waitpid(pid);
    },
    [],
    { flags: ["-A"] },
  );
  const [parent, child, grandchild] = output.trim().split("\n").map((line) =>
    line.split(" ").map(Number)
  );
  assert(parent![0]! > 0, output);
  assertEquals([child, grandchild], [[parent![0], parent![0]], [parent![0], parent![0]]]);
});

Deno.test("fork() waits until V8's threads sleep", async () => {
  // The first processor that this process may use, and no other.
  const shell = "taskset -cp $(taskset -cp $$ | sed 's/.*: //; s/[^0-9].*//') $$ > /dev/null;";
  const output = await run(
    async () => {
      const { areV8WorkersAsleep } = await import(Deno.args[0]!);
      tine.becomeForkable();
      // A thread that is woken does not interrupt this one.
      for (const { name } of Deno.readDirSync("/proc/self/task")) {
        if (!Deno.readTextFileSync(`/proc/self/task/${name}/comm`).startsWith("V8 ")) continue;
        new Deno.Command("chrt", { args: ["--batch", "-p", "0", name] }).outputSync();
      }
      const { gc } = globalThis as unknown as { gc(options: unknown): void };
      let awake = 0;
      for (let i = 0; i < 100; i++) {
        gc({ type: "minor" }); // wakes one, which cannot run before this thread waits
        if (!areV8WorkersAsleep()) awake++;
        const pid = tine.forkChild(() => areV8WorkersAsleep() ? 0 : 1);
        if (tine.waitpid(pid).status?.raw !== 0) console.log("forked too early");
      }
      console.log(awake > 50 ? "woken" : `only ${awake} times awake`);
    },
    [new URL("ffi/runtime/v8_workers.ts", ROOT).href],
    { flags: ["-A", "--v8-flags=--expose-gc"], shell },
  );
  assertEquals(output, "woken\n");
});

Deno.test("V8's threads of a child take the tasks that collections give them", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const pid = await tine.forkRuntimeChild(async () => {
        const wakes = () =>
          [...Deno.readDirSync("/proc/self/task")]
            .map(({ name }) => Deno.readTextFileSync(`/proc/self/task/${name}/status`))
            .filter((text) => text.startsWith("Name:\tV8 "))
            .map((text) => Number(text.match(/^voluntary_ctxt_switches:\t(\d+)$/m)![1]))
            .reduce((sum, count) => sum + count, 0);
        const before = wakes();
        // Several tasks may wake a thread once.
        for (let i = 0; i < 1000 && wakes() < before + 20; i++) {
          (globalThis as unknown as { gc(options: unknown): void }).gc({ type: "minor" });
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        console.log(wakes() - before);
      });
      tine.waitpid(pid);
    },
    [],
    { flags: ["-A", "--v8-flags=--expose-gc"] },
  );
  assert(Number(output) >= 20, output);
});

Deno.test("children collect garbage while other threads have the stacks of V8's threads", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { gc } = globalThis as unknown as { gc(options: unknown): void };
      for (let i = 0; i < 20; i++) {
        gc({ type: "minor" });
        const pid = await tine.forkRuntimeChild(async () => {
          tine.alarm(60); // a hang ends as a signal
          const files = Array.from({ length: 12 }, () => Deno.readTextFile("/proc/self/stat"));
          gc({ type: "minor" });
          await Promise.all(files);
          for (let i = 0; i < 20; i++) {
            gc({ type: "minor" });
            await new Promise((resolve) => setTimeout(resolve));
          }
        });
        console.log(JSON.stringify(tine.waitpid(pid).status));
      }
    },
    [],
    { flags: ["-A", "--v8-flags=--expose-gc"] },
  );
  assertEquals(output, `{"kind":"exited","code":0,"raw":0}\n`.repeat(20));
});

Deno.test("where V8's threads are not understood, V8 does without them", async () => {
  await using folder = scratch();
  for (const place of ["ffi", "ffi/runtime", "ffi/forking"]) {
    Deno.mkdirSync(`${folder.path}/${place}`);
    for (const { name, isFile } of Deno.readDirSync(new URL(place, ROOT))) {
      if (!isFile) continue;
      const text = Deno.readTextFileSync(new URL(`${place}/${name}`, ROOT));
      Deno.writeTextFileSync(`${folder.path}/${place}/${name}`, text.replace("-16,", "-24,"));
    }
  }
  const program = `${folder.path}/program.ts`;
  Deno.writeTextFileSync(
    program,
    `import { becomeForkable, forkRuntimeChild, waitpid } from "./ffi/mod.ts";
     console.error("run");
     becomeForkable();
     const pid = await forkRuntimeChild(async () => {
       for await (const { name } of Deno.readDir("/proc/self/task")) {
         console.log(Deno.readTextFileSync("/proc/self/task/" + name + "/comm").trim());
       }
     });
     console.log(waitpid(pid).status.code);`,
  );
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", program],
    env: { NO_COLOR: "1" },
  });
  const { stdout, stderr } = await command.output();
  const [output, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(errors, "run\n".repeat(3));
  assertEquals(output!.includes("V8"), false, output);
  assert(output!.endsWith("0\n"), output);
});
