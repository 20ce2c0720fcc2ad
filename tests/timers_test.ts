import { assert, assertEquals } from "@std/assert";
import * as tine from "../mod.ts";
import { ROOT, run, scratch, start, writeApp } from "./support.ts";

const MOD = new URL("mod.ts", ROOT).href;
const TIMERS = new URL("../ffi/runtime/timers.ts", import.meta.url).href;

/**
 * Forks a child with a runtime after the parent has set timers in all ways, and looks whose code
 * runs there.
 */
async function forkAmongTimers(): Promise<void> {
  if (Deno.args.includes("hidden")) Object.defineProperty(Deno, "internal", { value: undefined });
  const { after, every, nextTurn } = await import(Deno.args[0]!);
  tine.becomeForkable();
  const node = await import("node:timers");
  const seen: string[] = [];
  const note = (name: string) => () => void seen.push(name);
  await nextTurn();
  // From here to the fork nothing runs.
  after(20, note("after"));
  const ticks = every(10, note("every"));
  if (Deno.args.includes("public")) {
    setTimeout(note("setTimeout"), 20);
    setInterval(note("setInterval"), 10);
  }
  if (Deno.args.includes("node")) node.setInterval(note("node"), 10);
  const child = tine.fork({ runtime: true });
  const own = child === 0 ? "child's " : "parent's ";
  after(50, note(`${own}after`));
  const mine = every(20, note(`${own}every`));
  after(10, note(`${own}canceled`)).cancel();
  // Timers run in the order in which they are due: the others were before.
  await new Promise((resolve) => setTimeout(resolve, 80));
  const before = [...new Set(seen)].sort().join(", ");
  mine.cancel();
  ticks.cancel();
  seen.length = 0;
  await new Promise((resolve) => setTimeout(resolve, 30));
  const later = [...new Set(seen)].sort().join(", ");
  console.log(`${own}run: ${before}; later: ${later}.`);
  if (child === 0) tine._exit(0);
  console.log(tine.waitpid(child).status?.raw === 0);
  Deno.exit();
}

for (
  const [what, args, others] of [
    ["none but tine's", [], []],
    ["public ones", ["public"], ["setInterval", "setTimeout"]],
    ["Node's", ["node"], ["node"]],
    ["all kinds, where Deno hides its own", ["public", "node", "hidden"], [
      "node",
      "setInterval",
      "setTimeout",
    ]],
  ] as const
) {
  Deno.test(`a child with a runtime runs its own timers and not the parent's: ${what}`, async () => {
    const output = await run(forkAmongTimers, [TIMERS, ...args], { flags: ["-A"] });
    const parents = ["after", "every", "parent's after", "parent's every", ...others].sort();
    const last = others.filter((name) => name !== "setTimeout");
    assertEquals(output.trimEnd().split("\n").sort(), [
      "child's run: child's after, child's every; later: .",
      `parent's run: ${parents.join(", ")}; later: ${last.join(", ")}.`,
      "true",
    ]);
  });
}

Deno.test("a program's own timers do not require Node's", async () => {
  const output = await run(
    async () => {
      const { after, every, nextTurn } = await import(Deno.args[0]!);
      const named: string[] = [];
      for (const name of ["setTimeout", "setInterval"]) {
        Object.defineProperty(globalThis, name, { get: () => void named.push(name) });
      }
      const start = performance.now();
      await nextTurn();
      await new Promise<void>((resolve) => after(30, resolve));
      let count = 0;
      await new Promise<void>((resolve) => {
        const timer = every(10, () => {
          if (++count === 3) {
            timer.cancel();
            resolve();
          }
        });
      });
      tine.becomeForkable();
      const child = tine.fork({ runtime: true });
      if (child === 0) tine._exit(named.length);
      console.log(performance.now() - start >= 55, tine.waitpid(child).status?.raw, named.join());
    },
    [TIMERS],
    { flags: ["-A", "--v8-flags=--single-threaded"] },
  );
  assertEquals(output, "true 0 \n");
});

/**
 * Makes timers that are none any more, and prints how many timers and lists of them a child asks
 * for.
 */
async function countAsked(): Promise<void> {
  const isUnannounced = Deno.args[0] === "by fork() alone";
  if (!isUnannounced) tine.becomeForkable({ signals: [] });
  const asked = () => {
    const calls = new Int32Array(tine.mmap(4, tine.MAP_SHARED | tine.MAP_ANONYMOUS));
    const { clearTimeout } = globalThis;
    const { deref } = WeakRef.prototype;
    globalThis.clearTimeout = (id) => {
      calls[0]!++;
      clearTimeout(id);
    };
    WeakRef.prototype.deref = function () {
      calls[0]!++;
      return deref.call(this);
    };
    const pid = tine.fork({ runtime: true });
    if (pid === 0) return queueMicrotask(() => tine._exit(0));
    globalThis.clearTimeout = clearTimeout;
    WeakRef.prototype.deref = deref;
    tine.waitpid(pid);
    return calls[0];
  };
  const make = (count: number, milliseconds: (i: number) => number) => {
    for (let i = 0; i < count; i++) clearTimeout(setTimeout(() => {}, milliseconds(i)));
  };
  const seen: unknown[] = [];
  for (const made of isUnannounced ? [0, 1000, 100_000] : [100_000, 0, 1000]) {
    make(made, (i) => 60_000 + i % 20);
    seen.push(asked());
    if (seen.at(-1) === undefined) return;
  }
  // Lists that Deno gave up are forgotten.
  make(500, (i) => i);
  await new Promise((resolve) => setTimeout(resolve, 600));
  (globalThis as unknown as { gc(): void }).gc();
  make(600, (i) => 120_000 + i);
  seen.push(asked());
  if (seen.at(-1) !== undefined) console.log(JSON.stringify(seen));
}

for (const how of ["run again", "single-threaded from its start", "by fork() alone"]) {
  Deno.test(`a child's work on the parent's timers depends on the existing ones, not on earlier ones: ${how}`, async () => {
    const threads = how === "run again" ? "" : ",--single-threaded";
    const output = await run(countAsked, [how], {
      flags: ["-A", `--v8-flags=--expose-gc${threads}`],
    });
    const counts = JSON.parse(output);
    const later = counts.pop();
    assert(Math.max(...counts) < 30 && later < 800, output);
  });
}

Deno.test("the parent's timers do not run in a child, even if they were created before tine was imported", async () => {
  await using folder = scratch();
  const program = writeApp(
    folder.path,
    `
    import node from "node:timers";
    const parent = Deno.pid;
    const ran = { parent: new Set(), child: new Set() };
    const note = (name) => () => ran[isChild ? "child" : "parent"].add(name);
    let isChild = false;
    setInterval(note("interval"), 10);
    node.setInterval(note("node's, unref'ed"), 11).unref();
    setTimeout(note("timeout"), 40);
    clearTimeout(setTimeout(() => {}, 50)); // leaves an empty list
    clearTimeout(setTimeout(() => {}, 30));
    const tine = await import(${JSON.stringify(MOD)});
    const late = Deno.args[0] === "late";
    if (!late) tine.becomeForkable();
    const { after, delay } = await import(${JSON.stringify(TIMERS)});
    setTimeout(note("timeout among others' lists"), 40);
    setTimeout(note("timeout in an empty list"), 50);
    after(30, note("after in an empty list"));
    setInterval(note("interval in a list of its own"), 12);
    const pid = tine.fork({ runtime: true });
    isChild = pid === 0;
    setTimeout(note("the child's, among others' lists"), 40);
    await delay(100);
    console.log(isChild ? "child" : "parent", [...ran[isChild ? "child" : "parent"]].sort().join(", "));
    if (!isChild) tine.waitpid(pid);
    tine._exit(0);
    `,
    "program.js",
  );
  for (const when of ["early", "late"]) {
    await using started = start(program, [when], {
      flags: ["-A", ...when === "late" ? ["--v8-flags=--single-threaded"] : []],
    });
    assertEquals((await started.ended()).code, 0, started.stderr);
    assertEquals(started.stdout.trimEnd().split("\n").sort(), [
      "child the child's, among others' lists",
      "parent after in an empty list, interval, interval in a list of its own, node's, unref'ed, " +
      "the child's, among others' lists, timeout, timeout among others' lists, " +
      "timeout in an empty list",
    ], when);
  }
});

Deno.test("an interval that forks continues only in the parent", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const parent = tine.getpid();
    let turns = 0;
    const timer = setInterval(() => {
      if (tine.getpid() !== parent) return console.log("the parent's interval ran in the child");
      if (++turns === 3) {
        clearInterval(timer);
        console.log(tine.waitpid(-1).status?.raw);
      }
      if (turns > 1) return;
      if (tine.fork({ runtime: true }) === 0) setTimeout(() => tine._exit(0), 100);
    }, 10);
  });
  assertEquals(output, "0\n");
});

Deno.test("a child does not run the parent's deadlines, unref'ed timers and immediate functions", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { nextTurn } = await import(Deno.args[0]!);
      const { setTimeout: delay } = await import("node:timers/promises");
      const parent = tine.getpid();
      const ran: string[] = [];
      const note = (name: string) => () => void ran.push(name);
      const set = () => {
        AbortSignal.timeout(20).addEventListener("abort", note("abort"));
        Deno.unrefTimer(setInterval(note("unref'ed"), 10));
        setImmediate(note("immediate"));
        setImmediate(note("immediate"));
        delay(20).then(note("promised"));
      };
      set();
      await nextTurn();
      set();
      const child = tine.fork({ runtime: true });
      ran.length = 0;
      if (child === 0) setImmediate(note("the child's immediate"));
      await new Promise((resolve) => setTimeout(resolve, 60));
      console.log(tine.getpid() === parent ? "parent" : "child", [...new Set(ran)].sort().join());
      if (child === 0) tine._exit(0);
      tine.waitpid(child);
      Deno.exit();
    },
    [TIMERS],
    { flags: ["-A"] },
  );
  assertEquals(output.trimEnd().split("\n").sort(), [
    "child the child's immediate",
    "parent abort,immediate,promised,unref'ed",
  ]);
});

Deno.test("a Node server sends the current time in a child", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const http = await import("node:http");
      const serve = async (): Promise<() => Promise<string>> => {
        const server = http.createServer((_, response) => response.end());
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        const { port } = server.address() as { port: number };
        return async () => {
          const response = await fetch(`http://127.0.0.1:${port}/`);
          await response.body?.cancel();
          return response.headers.get("date")!;
        };
      };
      // The date is kept from here on.
      const date = await (await serve())();
      const child = await tine.forkRuntimeChild(async () => {
        const ask = await serve();
        const end = performance.now() + 10_000;
        while (await ask() === date) {
          if (performance.now() > end) return 1;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      });
      console.log(tine.waitpid(child).status?.raw);
      tine._exit(0);
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(output, "0\n");
});
