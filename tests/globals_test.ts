import { assert, assertEquals } from "@std/assert";
import * as tine from "../mod.ts";
import { ROOT, run, scratch, start, writeApp } from "./support.ts";

const MOD = new URL("mod.ts", ROOT).href;

/** Where a file changes what belongs to the whole program: a global, a prototype. */
function replacementsIn(file: string, source: string): string[] {
  const found: string[] = [];
  const declared = new Set<string>();
  /** What a target is a part of: `Math` in `Math.random`. */
  const rootOf = (node: Deno.lint.Node): Deno.lint.Node => {
    switch (node.type) {
      case "MemberExpression":
        return rootOf(node.object);
      case "TSAsExpression":
      case "TSNonNullExpression":
        return rootOf(node.expression);
      default:
        return node;
    }
  };
  const plugin: Deno.lint.Plugin = {
    name: "globals",
    rules: {
      replaced: {
        create(context) {
          const { sourceCode } = context;
          const isShared = (target: Deno.lint.Node): boolean => {
            const isPart = target.type !== "Identifier";
            const text = sourceCode.getText(target);
            if (isPart && /\b(prototype|__proto__|getPrototypeOf)\b/.test(text)) return true;
            const root = rootOf(target);
            return root.type === "Identifier" && root.name in globalThis &&
              !declared.has(root.name);
          };
          const suspects: [Deno.lint.Node, Deno.lint.Node][] = [];
          const declare = (node: Deno.lint.Node | null) => {
            if (node?.type === "Identifier") declared.add(node.name);
          };
          return {
            ImportSpecifier: (node) => declare(node.local),
            VariableDeclarator: (node) => declare(node.id),
            FunctionDeclaration: (node) => declare(node.id),
            ClassDeclaration: (node) => declare(node.id),
            AssignmentExpression: (node) => void suspects.push([node, node.left]),
            UpdateExpression: (node) => void suspects.push([node, node.argument]),
            UnaryExpression(node) {
              if (node.operator === "delete") suspects.push([node, node.argument]);
            },
            CallExpression(node) {
              const [target] = node.arguments;
              const called = sourceCode.getText(node.callee);
              if (/\bsetPrototypeOf$/.test(called)) found.push(sourceCode.getText(node));
              const isChange = /^(Object|Reflect)\.(define\w+|assign|set|deleteProperty)$/
                .test(called);
              if (isChange && target !== undefined) suspects.push([node, target]);
            },
            "Program:exit"() {
              for (const [node, target] of suspects) {
                if (isShared(target)) found.push(sourceCode.getText(node));
              }
            },
          };
        },
      },
    },
  };
  Deno.lint.runPlugin(plugin, file, source);
  return found;
}

Deno.test("assignments to globals are found", () => {
  const changes = [
    "Math.random = () => 4",
    "fetch = undefined",
    "globalThis.fetch = undefined",
    '(globalThis as unknown as Window)["fetch"] = undefined',
    "console[name] = print",
    "Deno.pid++",
    "delete Deno.test",
    "Request.prototype.text = read",
    "prototype[key] ??= read",
    'Object.defineProperty(Deno, "pid", { get: getpid })',
    "Object.assign(console, { log })",
    'Reflect.set(Math, "random", random)',
    "Object.setPrototypeOf(request, other)",
    'Object.defineProperty(Object.getPrototypeOf(list), "msecs", { set })',
  ];
  for (const change of changes) {
    assertEquals(replacementsIn("some.ts", `${change};`), [change], change);
  }
  const harmless = `
    const name = "x", object = { fetch };
    object.fetch = () => fetch();
    object["name"] = Math.random();
    let close = 1;
    close = 2;
    Object.assign(object, Deno);
    Object.defineProperty(object, "pid", { get: () => Deno.pid });
    Object.freeze(object);`;
  assertEquals(replacementsIn("some.ts", harmless), []);
});

/** What is replaced for the length of one call only. */
const FOR_ONE_CALL = {
  "ffi/errno.ts": ["Error.stackTraceLimit = 0", "Error.stackTraceLimit = stackTraceLimit"],
  "ffi/runtime/certificate_choice.ts": [
    "Object.defineProperty(Object.prototype, name, { value: choose, configurable: true })",
    "Reflect.deleteProperty(Object.prototype, name)",
  ],
  "server/app/load_program.ts": ["Deno.exitCode = 1"], // of a process that is ending
};

Deno.test("`ffi/runtime/globals.ts` is the only file that replaces globals", async () => {
  const replacing = new Map<string, string[]>();
  const look = async (folder: string): Promise<void> => {
    for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
      if (isDirectory) await look(`${folder}${name}/`);
      else if (name.endsWith(".ts")) {
        const source = await Deno.readTextFile(new URL(`${folder}${name}`, ROOT));
        const found = replacementsIn(name, source);
        if (found.length > 0) replacing.set(`${folder}${name}`, found);
      }
    }
  };
  for (const folder of ["ffi/", "server/"]) await look(folder);
  assert(replacing.delete("ffi/runtime/globals.ts"));
  assertEquals(Object.fromEntries(replacing), FOR_ONE_CALL);
});

/**
 * A program that puts something around `fetch` at some time, and asks its own server in a runtime
 * child.
 */
const FETCHING = `
const [when, passes] = Deno.args;
let calls = 0;
function wrap() {
  const original = globalThis.fetch;
  globalThis.fetch = (input, init) => {
    calls++;
    return passes === "all" ? original(input, init) : original(input);
  };
}
if (when === "before tine is loaded") wrap();
const tine = await import(${JSON.stringify(MOD)});
if (when === "before becomeForkable()") wrap();
tine.becomeForkable();
if (when === "before the fork") wrap();
const server = Deno.serve(
  { port: 0, hostname: "127.0.0.1", onListen() {} },
  (_, { remoteAddr }) => new Response(String(remoteAddr.port)),
);
const ask = async () => (await fetch(\`http://127.0.0.1:\${server.addr.port}/\`)).text();
// The connection is kept, and the same one serves again.
const port = await ask();
if (port !== await ask()) throw new Error("fetch() did not keep its connection");
const pid = await tine.forkRuntimeChild(async () => {
  tine.alarm(20);
  const wrapper = globalThis.fetch;
  const own = await ask();
  console.log("child", own !== port, own === await ask(), calls, wrapper === globalThis.fetch);
});
let status;
while ((status = tine.waitpid(pid, tine.WNOHANG).status) === undefined) {
  await new Promise((resolve) => setTimeout(resolve, 5));
}
console.log("parent", status.raw, port === await ask(), calls);
tine._exit(0);
`;

for (
  const [when, passes] of [
    ["before tine is loaded", "all"],
    ["before becomeForkable()", "all"],
    ["before becomeForkable()", "the address alone"],
    ["before the fork", "the address alone"],
  ] as const
) {
  Deno.test(`what a program puts around fetch ${when} stays in a child, which has connections of its own: passing ${passes}`, async () => {
    await using folder = scratch();
    const program = writeApp(folder.path, FETCHING, "program.js");
    await using started = start(program, [when, passes], { flags: ["-A"] });
    assertEquals((await started.ended()).code, 0, started.stderr);
    assertEquals(started.stdout, "child true true 4 true\nparent 0 true 3\n");
  });
}

Deno.test("a program's own Math.random() is kept, in each child and in the parent", async () => {
  const output = await run(async () => {
    const tines = Math.random;
    /** A linear congruential generator. */
    const seeded = (seed: number) => () => (seed = (seed * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
    const own = seeded(1);
    const same = seeded(1);
    Math.random = own;
    tine.becomeForkable();
    const draw = (name: string, expected: number) =>
      console.log(name, Math.random === own, Math.random() === expected);
    draw("before", same());
    const expected = same();
    tine.waitpid(tine.forkChild(() => draw("child", expected)));
    tine.waitpid(
      await tine.forkRuntimeChild(() => Promise.resolve(draw("runtime child", expected))),
    );
    draw("parent", expected);
    Math.random = tines;
    for (let i = 0; i < 2; i++) tine.waitpid(tine.forkChild(() => console.log(Math.random())));
  });
  const lines = output.trimEnd().split("\n");
  assertEquals(
    lines.slice(0, 4),
    ["before", "child", "runtime child", "parent"].map((name) => `${name} true true`),
  );
  assertEquals(new Set(lines.slice(4)).size, 2);
});

Deno.test("V8's Math.random() is replaced again before a fork if a program has restored it", async () => {
  await using folder = scratch();
  const program = writeApp(
    folder.path,
    `
    const native = Math.random;
    const tine = await import(${JSON.stringify(MOD)});
    tine.becomeForkable();
    Math.random = native;
    for (let i = 0; i < 2; i++) tine.waitpid(tine.forkChild(() => console.log(Math.random())));
    `,
    "program.js",
  );
  await using started = start(program, [], { flags: ["-A"] });
  assertEquals((await started.ended()).code, 0, started.stderr);
  const lines = started.stdout.trimEnd().split("\n");
  assertEquals([lines.length, new Set(lines).size], [2, 2]);
});
