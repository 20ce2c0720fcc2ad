import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import type { Diagnosis } from "../server/mod.ts";
import { assertSnapshot, copySource, type Program, run, scratch, start } from "./support.ts";

/** How the doctor is run. */
interface Setting {
  /** Flags of `deno run`. */
  flags?: string[];
  args?: string[];
  env?: Record<string, string>;
  shell?: string;
  /** The folder of tine's source; this one if left out. */
  root?: string;
}

function startDoctor({ flags = ["-A"], args = [], env = {}, shell, root }: Setting): Program {
  const cli = root === undefined ? "server/cli.ts" : `${root}/server/cli.ts`;
  const options = { flags, env, ...shell === undefined ? {} : { shell } };
  return start(cli, ["doctor", ...args], options);
}

/** What the doctor says, and its exit code. */
async function diagnose(setting: Setting): Promise<Diagnosis & { code: number }> {
  await using program = startDoctor({ ...setting, args: ["--json"] });
  const { code } = await program.ended();
  assertEquals(program.stderr, "");
  return { code, ...JSON.parse(program.stdout) as Diagnosis };
}

/** The names of the checks with an outcome. */
function namesOf({ findings }: Diagnosis, outcome: string): string[] {
  return findings.filter((finding) => finding.outcome === outcome).map(({ name }) => name);
}

/** What depends on the machine. */
function mask(text: string): string {
  return text.replace(/\d+\.\d+\.\d+\S*/g, "VERSION").replaceAll(/\/[\w./-]*deno\b/g, "EXECUTABLE")
    .replace(/\/\S*libc[.-]\S*/, "LIBC").replace(/\d+ threads/, "N threads")
    .replace(/at most (\d+|Infinity)/g, "at most N").replace(/(x86_64|aarch64)/, "ARCHITECTURE");
}

Deno.test("`tine doctor` finds nothing that fails here, and says so line by line", async (test) => {
  await using program = startDoctor({});
  const { code } = await program.ended();
  assertEquals([code, program.stderr], [0, ""], program.stdout);
  await assertSnapshot(test, mask(program.stdout));
});

Deno.test("`tine doctor --json` prints the same as JSON", async (test) => {
  await using program = startDoctor({ args: ["--json"] });
  assertEquals((await program.ended()).code, 0, program.stderr);
  await assertSnapshot(test, mask(program.stdout));
});

Deno.test("`tine doctor` rejects unknown arguments", async () => {
  for (const argument of ["--verbose", "4711"]) {
    await using program = startDoctor({ args: [argument] });
    assertEquals((await program.ended()).code, 2);
    assertEquals(program.stderr, `error: unknown argument ${argument}\nTry --help.\n`);
  }
});

const FACTS = [
  "1 the heap",
  "2 V8's threads",
  "3 signals",
  "4 the event loop",
  "5 random numbers",
  "6 listening sockets",
];

Deno.test("`tine doctor` says that descriptors are few, and what to do", async () => {
  const diagnosis = await diagnose({ shell: "ulimit -n 64;" });
  assertEquals([diagnosis.code, diagnosis.ok], [1, false]);
  assertEquals(namesOf(diagnosis, "failed"), ["descriptors"]);
  assertEquals(namesOf(diagnosis, "not tried"), []);
  const { detail, advice } = diagnosis.findings.find(({ name }) => name === "descriptors")!;
  assertEquals(detail, "at most 64, where 256 are few");
  assertEquals(advice, "Raise the limit: ulimit -n 4096");
});

Deno.test("`tine doctor` says that processes are few", async () => {
  const diagnosis = await diagnose({ shell: "ulimit -S -u 100;" });
  assertStringIncludes(namesOf(diagnosis, "failed").join(), "processes");
});

for (
  const { flags, failed, skipped } of [
    {
      flags: ["--allow-ffi", "--allow-read"],
      failed: ["permission net"],
      skipped: ["6 listening sockets"],
    },
    { flags: ["--allow-ffi", "--allow-net"], failed: ["permission read"], skipped: [] },
    {
      flags: ["--allow-net", "--allow-read"],
      failed: ["permission ffi"],
      skipped: ["glibc", "/proc", "descriptors", "processes", "forkable", ...FACTS],
    },
  ]
) {
  Deno.test(`\`tine doctor\` with ${flags.join(" ")} says that it lacks the ${failed}`, async () => {
    const diagnosis = await diagnose({ flags });
    assertEquals(namesOf(diagnosis, "failed"), failed);
    assertEquals(namesOf(diagnosis, "not tried"), skipped);
    assertEquals(diagnosis.code, 1);
  });
}

Deno.test("`tine doctor` succeeds with the permissions that a server needs", async () => {
  const flags = ["--allow-ffi", "--allow-read", "--allow-net=127.0.0.1"];
  assertEquals(namesOf(await diagnose({ flags }), "ok").length, 16);
});

Deno.test("`tine doctor` says that V8's flags keep the program from forking", async () => {
  const diagnosis = await diagnose({ flags: ["-A", "--v8-flags=--no-single-threaded"] });
  assertEquals(namesOf(diagnosis, "failed"), ["forkable"]);
  assertEquals(namesOf(diagnosis, "not tried"), FACTS);
});

Deno.test("`tine doctor` accepts flags in DENO_V8_FLAGS that do not matter", async () => {
  const { ok } = await diagnose({ env: { DENO_V8_FLAGS: "--no-single-threaded,--lazy" } });
  assertEquals(ok, true);
});

for (
  const { fact, file, text, replacement } of [
    {
      fact: "1 the heap",
      file: "ffi/runtime/heap.ts",
      text: "MADV_DOFORK = 11",
      replacement: "MADV_DOFORK = 0",
    },
    {
      fact: "3 signals",
      file: "ffi/interruption.ts",
      text: "    running ? null : programMask(),",
      replacement: "    null,",
    },
    {
      fact: "4 the event loop",
      file: "ffi/runtime/assumptions.ts",
      text: "anon_inode:[eventpoll]",
      replacement: "anon_inode:[epoll]",
    },
    {
      fact: "5 random numbers",
      file: "ffi/runtime/assumptions.ts",
      text: "value: 128",
      replacement: "value: 64",
    },
    {
      fact: "6 listening sockets",
      file: "ffi/runtime/acceptor.ts",
      text: "      register(epoll, { ...registration, events });\n    },\n    requeue",
      replacement: "    },\n    requeue",
    },
  ]
) {
  Deno.test(`\`tine doctor\` names fact ${fact} where it does not hold`, async () => {
    await using folder = scratch();
    copySource(folder.path, { file, text, replacement });
    const diagnosis = await diagnose({ root: folder.path });
    assertEquals(namesOf(diagnosis, "failed"), [fact], JSON.stringify(diagnosis));
    assertEquals(diagnosis.code, 1);
    const { advice } = diagnosis.findings.find(({ name }) => name === fact)!;
    assertMatch(advice!, /^Use a version of Deno that docs\/measured\.md of tine lists/);
  });
}

Deno.test("doctor() finds nothing that fails here", async () => {
  const output = await run(
    async () => {
      console.log((await tine.doctor()).ok);
      Deno.exit();
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(output, "true\n");
});
