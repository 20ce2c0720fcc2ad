import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { DENO, ROOT, run, scratch, start, startServer, writeApp } from "./support.ts";

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
  // So many are drawn in advance that discarding slightly too few would not be noticed with few
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
  Deno.test(`${kind} children never draw the same from a Math.random() that was saved before the first fork`, async () => {
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

/** A program that draws ids while it loads, and then in 4 children and between them. */
const DRAWING = (imports: string, id: string) => `
import { becomeForkable, forkChild, forkRuntimeChild, waitpid } from ${JSON.stringify(MOD)};
${imports}
becomeForkable();
// What the children share on purpose: a key, and a table that other data may depend on.
const key = crypto.getRandomValues(new Uint8Array(32));
const table = crypto.getRandomValues(Buffer.allocUnsafe(4096));
const shared = () => "shared " + key + table;
const draw = (count) => { for (let i = 0; i < count; i++) console.log("id", ${id}); };
console.log(shared());
draw(3);
for (let i = 0; i < 4; i++) {
  const child = () => { draw(400); console.log(shared()); };
  waitpid(Deno.args[0] === "plain" ? forkChild(child) : await forkRuntimeChild(async () => child()));
  draw(10);
  console.log(shared());
}
`;

/** Writes a program and its packages into one file. */
async function bundle(program: string): Promise<string> {
  const output = program.replace(/\.js$/, ".bundle.js");
  const args = ["bundle", "--quiet", "--platform", "deno", program, "--output", output];
  const { success, stderr } = await new Deno.Command(DENO, { args }).output();
  assert(success, new TextDecoder().decode(stderr));
  return output;
}

for (
  const [name, imports, id] of [
    ["nanoid 3", 'import { nanoid } from "npm:nanoid@3.3.20";', "nanoid()"],
    ["nanoid 5", 'import { nanoid } from "npm:nanoid@5.1.16";', "nanoid()"],
    ["a module of nanoid 4", 'import * as nano from "npm:nanoid@4.0.2";', "nano.nanoid()"],
    [
      "an alphabet of nanoid 5",
      'import { customAlphabet } from "npm:nanoid@5.1.16";\n' +
      'const custom = customAlphabet("0123456789abcdef", 20);',
      "custom()",
    ],
    ["nanoid 6", 'import { nanoid } from "npm:nanoid@6.0.2";', "nanoid()"],
    [
      "an alphabet of nanoid 6",
      'import { customAlphabet } from "npm:nanoid@6.0.2";\n' +
      'const custom = customAlphabet("0123456789", 20);',
      "custom()",
    ],
    ["uuid 8", 'import { v4 } from "npm:uuid@8.3.2";', "v4()"],
    ["uuid 13", 'import { v4, v6, v7 } from "npm:uuid@13.0.2";', "v4() + v6() + v7()"],
    ["uuid 14", 'import { v4, v7 } from "npm:uuid@14.0.3";', "v4() + v7()"],
    ["cuid2 2", 'import { createId } from "npm:@paralleldrive/cuid2@2.2.2";', "createId()"],
    ["ulid 3", 'import { ulid } from "npm:ulid@3.0.2";', "ulid()"],
  ] as const
) {
  Deno.test(`children share random bytes drawn at load, and no id of ${name}`, async () => {
    await using folder = scratch();
    let program = writeApp(folder.path, DRAWING(imports, id), "program.js");
    for (const kind of ["plain", "runtime", "bundled"]) {
      if (kind === "bundled") program = await bundle(program);
      await using started = start(program, [kind], { flags: ["-A"] });
      assertEquals((await started.ended(60_000)).code, 0, started.stderr);
      const lines = started.stdout.trimEnd().split("\n");
      const shared = lines.filter((line) => line.startsWith("shared "));
      assertEquals([shared.length, new Set(shared).size], [9, 1]);
      const ids = lines.filter((line) => line.startsWith("id "));
      assertEquals([ids.length, new Set(ids).size], [1643, 1643]);
    }
  });
}

for (
  const [name, imports, common] of [
    ["uuid 11's v1()", 'import { v1 } from "npm:uuid@11.1.1";', "v1().slice(24)"],
    ["uuid 14's v1()", 'import { v1 } from "npm:uuid@14.0.3";', "v1().slice(24)"],
    ["bson", 'import { ObjectId } from "npm:bson@7.3.4";', "String(new ObjectId()).slice(8, 18)"],
  ] as const
) {
  Deno.test(`what all ids of ${name} have in common differs from process to process`, async () => {
    await using folder = scratch();
    const program = writeApp(
      folder.path,
      `
      import { becomeForkable, forkChild, forkRuntimeChild, waitpid } from ${JSON.stringify(MOD)};
      ${imports}
      becomeForkable();
      const draw = () => [1, 2, 3].map(() => ${common});
      const print = () => console.log([...new Set(draw())].join());
      draw();
      for (let i = 0; i < 4; i++) {
        waitpid(i % 2 === 0 ? forkChild(print) : await forkRuntimeChild(async () => print()));
      }
      print();`,
      "program.js",
    );
    // Otherwise Deno tells of a package that is not in its cache.
    await using started = start(program, [], { flags: ["-A", "--quiet"] });
    assertEquals((await started.ended(60_000)).code, 0, started.stderr);
    const nodes = started.stdout.trimEnd().split("\n");
    assertEquals([nodes.length, new Set(nodes).size], [5, 5], started.stdout);
    for (const node of nodes) assertMatch(node, /^[0-9a-f]+$/);
    assertEquals(started.stderr, "");
  });
}

const OLD_UUID = 'import { v1, v4 } from "npm:uuid@10.0.0";\n';
const WARNING = /uuid has made an id with v1\(\) before the fork.*Make the first one in .*\n/g;

Deno.test("the first fork warns, once, if uuid 10 has made an id with v1()", async () => {
  await using folder = scratch();
  for (const [drawn, warnings] of [["v4(); v1();", 1], ["v4();", 0]] as const) {
    const program = writeApp(
      folder.path,
      `import { becomeForkable, forkChild, waitpid } from ${JSON.stringify(MOD)};
      ${OLD_UUID}
      becomeForkable();
      ${drawn}
      for (let i = 0; i < 2; i++) waitpid(forkChild(() => v1()));`,
      "program.js",
    );
    await using started = start(program, [], { flags: ["-A"] });
    assertEquals((await started.ended(60_000)).code, 0, started.stderr);
    assertEquals(started.stderr.match(WARNING)?.length ?? 0, warnings, started.stderr);
  }
});

Deno.test("the preforking server warns if its app has made an id with uuid 10's v1()", async () => {
  await using folder = scratch();
  const handler = "export default { fetch: () => new Response(id) };";
  const app = writeApp(folder.path, `${OLD_UUID}const id = v1();\n${handler}`);
  await using server = await startServer([], { app });
  assertEquals(server.stderr.match(WARNING)?.length, 1, server.stderr);
  assertStringIncludes(server.stderr, "onWorkerStart");
  await using separate = await startServer(["--no-preload"], { app });
  assertEquals(separate.stderr.match(WARNING), null, separate.stderr);
});

Deno.test("Math.random() stays between 0 and 1, and evenly distributed, after a fork", async () => {
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
