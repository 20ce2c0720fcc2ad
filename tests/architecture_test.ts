/**
 * Who may import whom. The floors of the house, from the roof down:
 *
 *     examples -> mod.ts -> server -> ffi/forking -> ffi/runtime -> ffi
 *
 * and the rooms of the server: `cli`, `prefork`, the lower rungs with their gateway, `app`, and
 * at the bottom what all of them use. Types count as much as values.
 */
import { assert, assertEquals } from "@std/assert";
import { ROOT, scratch } from "./support.ts";

/** One file's import of another, or of a package. */
interface Import {
  /** The file that imports, from the root. */
  readonly from: string;
  /** What stands there. */
  readonly specifier: string;
  /** The file that is meant, from the root; or a package's URL. */
  readonly to: string;
  /** Whether only types are imported, which \`deno run\` does not load. */
  readonly isType: boolean;
  /** Whether it is loaded when \`import()\` is called. */
  readonly isDynamic: boolean;
}

/**
 * All files of these folders that are TypeScript, from the root. A folder with a configuration of
 * its own is a user's app.
 */
function sources(...folders: string[]): string[] {
  return folders.flatMap((folder) =>
    [...Deno.readDirSync(new URL(folder, ROOT))].flatMap(({ name, isDirectory }) => {
      if (isDirectory) return isApp(`${folder}${name}`) ? [] : sources(`${folder}${name}/`);
      return name.endsWith(".ts") ? [`${folder}${name}`] : [];
    })
  );
}

function isApp(folder: string): boolean {
  const names = [...Deno.readDirSync(new URL(folder, ROOT))].map(({ name }) => name);
  return names.some((name) => name === "deno.json" || name === "package.json");
}

/** All imports of some files, static and dynamic, of values and of types, as Deno sees them. */
async function importsOf(files: readonly string[]): Promise<Import[]> {
  await using folder = scratch();
  const all = `${folder.path}/all.ts`;
  const urls = files.map((file) => new URL(file, ROOT).href);
  Deno.writeTextFileSync(all, urls.map((url) => `import ${JSON.stringify(url)};\n`).join(""));
  const config = new URL("deno.json", ROOT).pathname;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--config", config, all],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  interface Module {
    specifier: string;
    error?: string;
    dependencies?: { specifier: string; code?: Target; type?: Target; isDynamic?: boolean }[];
  }
  interface Target {
    specifier?: string;
    error?: string;
  }
  const { modules }: { modules: Module[] } = JSON.parse(new TextDecoder().decode(stdout));
  const found = modules.filter(({ specifier }) => urls.includes(specifier));
  assertEquals(found.length, files.length);
  return found.flatMap((module) => {
    assertEquals(module.error, undefined);
    return (module.dependencies ?? []).map(({ specifier, code, type, isDynamic = false }) => {
      const to = code?.specifier ?? type?.specifier;
      if (to === undefined) {
        throw new Error(`${module.specifier} imports ${specifier}: there is none`);
      }
      const isType = code === undefined;
      return { from: nameOf(module.specifier), specifier, to: nameOf(to), isType, isDynamic };
    });
  });
}

function nameOf(url: string): string {
  return url.startsWith(ROOT.href) ? url.slice(ROOT.href.length) : url;
}

const HOUSE = [...sources("ffi/", "server/", "examples/"), "mod.ts"];
const imports = await importsOf([...HOUSE, ...sources("tests/")]);
const ofHouse = imports.filter(({ from }) => HOUSE.includes(from));
const files = ofHouse.filter(({ to }) => HOUSE.includes(to));

/** The floors from top to bottom. The first pattern that matches a file gives its floor. */
const FLOORS = [
  /^examples\//,
  /^(ffi\/|server\/)?mod\.ts$/, // for those who use the package
  /^server\//,
  /^ffi\/forking\//,
  /^ffi\/runtime\//,
  /^ffi\//,
];

/** The rooms of the server, in the same order. */
const ROOMS = [
  /^server\/cli[./]/,
  /^server\/prefork[./]/,
  /^server\/(gateway\/|(forking|iterative|listen)\.ts$)/,
  /^server\/app\//,
  /^server\//,
];

/** The imports that go up. */
function goingUp(imports: readonly Import[], order: readonly RegExp[]): string[] {
  const place = (file: string) => order.findIndex((pattern) => pattern.test(file));
  return imports.filter(({ from, to }) => place(to) < place(from)).map(describe);
}

function describe({ from, to }: Import): string {
  return `${from} imports ${to}`;
}

Deno.test("imports only go down the floors", () => {
  assertEquals(goingUp(files, FLOORS), []);
});

Deno.test("imports only go down the server's folders", () => {
  const isInRoom = (file: string) => file.startsWith("server/") && file !== "server/mod.ts";
  const inside = files.filter(({ from, to }) => isInRoom(from) && isInRoom(to));
  assertEquals(goingUp(inside, ROOMS), []);
});

Deno.test("master and worker do not import each other", () => {
  const sides = ["server/prefork/master", "server/prefork/worker"] as const;
  const between = files.filter(({ from, to }) =>
    sides.some((side, i) => from.startsWith(side) && to.startsWith(sides[1 - i]!))
  );
  assertEquals(between.map(describe), []);
});

Deno.test("examples import mod.ts and packages, the lab also examples, and only mod.ts and the lab import server/mod.ts", () => {
  const wrong = files.filter(({ from, to }) => {
    if (from.startsWith("examples/lab/")) {
      return !/^(examples\/.*|mod\.ts|server\/mod\.ts)$/.test(to);
    }
    if (from.startsWith("examples/")) return to !== "mod.ts";
    return /^(ffi|server)\/mod\.ts$/.test(to) && from !== "mod.ts";
  });
  assertEquals(wrong.map(describe), []);
});

Deno.test("no files import each other in a circle", () => {
  const next = Map.groupBy(imports, ({ from }) => from);
  const done = new Set<string>();
  const circles: string[] = [];
  const walk = (file: string, path: string[]) => {
    if (path.includes(file)) {
      circles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
    } else if (!done.has(file)) {
      for (const { to } of next.get(file) ?? []) walk(to, [...path, file]);
      done.add(file);
    }
  };
  for (const file of next.keys()) walk(file, []);
  assertEquals(circles, []);
});

Deno.test("mod.ts needs no packages and no import map", () => {
  const graph = new Set(["mod.ts"]);
  // The iteration of a set includes elements added during it.
  for (const file of graph) {
    for (const { from, specifier, to } of ofHouse) {
      if (from !== file) continue;
      assert(/^\.\.?\//.test(specifier), `${from}, which mod.ts needs, imports ${specifier}`);
      graph.add(to);
    }
  }
  assert(graph.size > 50, `mod.ts needs ${graph.size} files only`);
});

/** Returns a file, and all that some of its imports lead to. */
function reached(start: string, isWanted: (one: Import) => boolean): Set<string> {
  const graph = new Set([start]);
  for (const file of graph) {
    for (const one of ofHouse) if (one.from === file && isWanted(one)) graph.add(one.to);
  }
  return graph;
}

const isLoadedFirst = ({ isType, isDynamic }: Import) => !isType && !isDynamic;

Deno.test("the command line loads only what it takes to execute Deno again before its first line, and its types name the rest", () => {
  const loaded = reached("server/cli.ts", isLoadedFirst);
  assert(loaded.has("ffi/forking/run_again.ts"));
  assert(loaded.size <= 32, `${loaded.size} files are loaded: ${[...loaded].join(" ")}`);
  const whole = reached("server/cli/whole.ts", ({ isType }) => !isType);
  assert(whole.has("server/prefork/serve.ts"));
  assertEquals([...whole.difference(reached("server/cli.ts", () => true))], [
    "server/cli/whole.ts",
    "server/cli/launched.ts",
  ]);
});

Deno.test("the server loads what only some options need when one of them is given", () => {
  const loaded = reached("server/cli/inside.ts", isLoadedFirst);
  const later = reached("server/prefork/worker/optional_modules.ts", ({ isType }) => !isType);
  const optional = [
    "server/prefork/status/status.ts",
    "server/prefork/logs/access_log.ts",
    "server/prefork/worker/forwarded.ts",
    "server/prefork/worker/proxy_gate.ts",
  ];
  assertEquals(optional.filter((file) => loaded.has(file)), []);
  assertEquals(optional.slice(1).filter((file) => !later.has(file)), []);
  assert(loaded.size <= 150, `${loaded.size} files are loaded`);
});

Deno.test("only an app's module, and the command line's, is imported without a literal", () => {
  const unknown = HOUSE.filter((file) =>
    /\bimport\(\s*[^"'\s]/.test(Deno.readTextFileSync(new URL(file, ROOT)))
  );
  assertEquals(unknown.toSorted(), [
    "server/app/load_app.ts",
    "server/app/main_module.ts",
    "server/cli.ts",
    "server/cli/local_copy.ts",
  ]);
});
