import { assertEquals } from "@std/assert";
import * as tine from "../mod.ts";
import { ROOT, run, scratch, start, writeApp } from "./support.ts";

const MOD = new URL("mod.ts", ROOT).href;

// Each process draws more than one block (256 bytes) from each source: a generator
// that only later runs into what a sibling has is as bad.
const draws = async () => {
  tine.becomeForkable();
  const { randomBytes } = await import("node:crypto");
  const [when, kind] = Deno.args;
  const hex = (bytes: Uint8Array) =>
    Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  const draw = () => {
    for (let i = 0; i < 40; i++) {
      console.log("uuid", crypto.randomUUID());
      console.log("values", hex(crypto.getRandomValues(new Uint8Array(16))));
      console.log("node", hex(randomBytes(16)));
      console.log("math", Math.random());
    }
  };
  // Blocks begin anywhere, seen from here.
  crypto.getRandomValues(new Uint8Array(4));
  if (when === "before") draw();
  const children: number[] = [];
  for (let i = 0; i < 8; i++) {
    if (when === "between") draw();
    const pid = tine.fork({ runtime: kind === "runtime" });
    if (pid === 0) {
      const grandchild = tine.forkChild(draw);
      draw();
      tine.waitpid(grandchild);
      tine._exit(0);
    }
    children.push(pid);
  }
  draw();
  for (const pid of children) tine.waitpid(pid);
};

for (const kind of ["plain", "runtime"]) {
  for (const when of ["after", "before", "between"]) {
    Deno.test(`parent, 8 ${kind} children and their children never draw the same, drawing ${when} the fork`, async () => {
      const output = await run(draws, [when, kind], { flags: ["-A"] });
      const lines = output.trim().split("\n");
      const processes = 17 + (when === "before" ? 1 : when === "between" ? 8 : 0);
      assertEquals(lines.length, processes * 40 * 4);
      const seen = new Map<string, number>();
      for (const line of lines) seen.set(line, (seen.get(line) ?? 0) + 1);
      assertEquals([...seen].filter(([, count]) => count > 1), []);
      // A value may not turn up in another source either, shifted within the stream.
      const words = lines.filter((line) => /^(values|node)/.test(line))
        .flatMap((line) => line.split(" ")[1]!.match(/.{16}/g)!);
      assertEquals(new Set(words).size, words.length);
    });
  }
}

for (const kind of ["plain", "runtime"]) {
  // So much is drawn in advance that whoever throws away a little less would not be caught by few
  // numbers: whatever was left, all of it is drawn here.
  for (const source of ["uuid", "values"]) {
    Deno.test(`parent and ${kind} children share none of 400 numbers each that were drawn in advance: ${source}`, async () => {
      const output = await run(
        async () => {
          tine.becomeForkable();
          const [kind, source] = Deno.args;
          let draw = () => crypto.randomUUID() as string;
          if (source === "values") {
            // With UUIDs of the program's own, nothing but the values moves Deno's generator on.
            crypto.randomUUID = () => "00000000-0000-4000-8000-000000000000";
            draw = () => crypto.getRandomValues(new Uint32Array(2)).join();
          }
          // Blocks begin anywhere, seen from here.
          crypto.getRandomValues(new Uint8Array(4));
          const print = (count: number) => {
            for (let i = 0; i < count; i++) console.log(draw());
          };
          for (let i = 0; i < 4; i++) {
            print(1);
            const child = kind === "plain"
              ? tine.forkChild(() => print(400))
              : await tine.forkRuntimeChild(() => Promise.resolve(print(400)));
            tine.waitpid(child);
          }
          print(400);
        },
        [kind, source],
      );
      const lines = output.trimEnd().split("\n");
      assertEquals(lines.length, 4 * 401 + 400);
      assertEquals(new Set(lines).size, lines.length);
    });
  }
}

for (const kind of ["plain", "runtime"]) {
  Deno.test(`${kind} children never draw the same from a Math.random() that was kept before the first fork`, async () => {
    await using folder = scratch();
    // A package keeps it when it is loaded, which is before becomeForkable().
    writeApp(folder.path, "export const { random } = Math;", "package.js");
    const program = writeApp(
      folder.path,
      `
      import { becomeForkable, forkChild, forkRuntimeChild, waitpid } from ${JSON.stringify(MOD)};
      import { random } from "./package.js";
      becomeForkable();
      const { random: own } = Math;
      const draw = () => { for (let i = 0; i < 400; i++) console.log(random() + " " + own()); };
      draw();
      for (let i = 0; i < 4; i++) {
        waitpid(${
        kind === "plain" ? "forkChild(draw)" : "await forkRuntimeChild(async () => draw())"
      });
        draw();
      }`,
      "program.js",
    );
    await using started = start(program, [], { flags: ["-A"] });
    assertEquals((await started.ended()).code, 0, started.stderr);
    const numbers = started.stdout.trimEnd().split(/\s/);
    assertEquals([numbers.length, new Set(numbers).size], [9 * 800, 9 * 800]);
  });
}

Deno.test("Math.random() stays between 0 and 1 and even after a fork", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    const child = tine.forkChild(() => {
      const buckets = new Array<number>(10).fill(0);
      for (let i = 0; i < 100_000; i++) buckets[Math.floor(Math.random() * 10)]!++;
      console.log(buckets.length, Math.min(...buckets) > 9000, Math.max(...buckets) < 11_000);
    });
    tine.waitpid(child);
  });
  assertEquals(output, "10 true true\n");
});
