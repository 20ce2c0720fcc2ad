import { assertEquals, assertMatch } from "@std/assert";
import { MUTANTS } from "./mutants/list.ts";
import { findStale, type Mutant, Trial } from "./mutants/mutant.ts";
import { ROOT, scratch } from "./support.ts";

Deno.test("the list of mutants matches the code, and names existing tests", () => {
  const stale = MUTANTS.flatMap((mutant) => {
    const reason = findStale(ROOT.pathname, mutant);
    return reason === undefined ? [] : [`${mutant.name}: ${reason}`];
  });
  assertEquals(stale, []);
  assertEquals(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
});

const SOURCE = "export const two = 1 + 1;\nexport const three = 3;\n";
const TESTS = `import { three, two } from "../mod.ts";
function expect(is: boolean): void {
  if (!is) throw new Error("on purpose");
}
Deno.test("two is 2", () => expect(two === 2));
Deno.test("three is a number", () => expect(typeof three === "number"));
Deno.test("always fails", () => expect(Number(two) === 7));
// no test
`;

Deno.test("a trial reports whether a test notices a change, and does not change the code", async () => {
  await using folder = scratch();
  const { path } = folder;
  for (const name of ["server", "tests"]) Deno.mkdirSync(`${path}/${name}`);
  Deno.writeTextFileSync(`${path}/mod.ts`, SOURCE);
  Deno.writeTextFileSync(`${path}/server/cli.ts`, 'import "../mod.ts";\n');
  Deno.writeTextFileSync(`${path}/tests/some_test.ts`, TESTS);
  const trial = new Trial(path, path);
  const outcomeOf = async (change: Partial<Mutant>) => {
    const { outcome, reason = "" } = await trial.try({
      name: "some",
      file: "mod.ts",
      text: "1 + 1",
      replacement: "1 + 3",
      test: "tests/some_test.ts",
      filter: "two is 2",
      ...change,
    });
    assertEquals(Deno.readTextFileSync(`${path}/mod.ts`), SOURCE);
    return `${outcome}: ${reason}`;
  };
  assertEquals(await outcomeOf({}), "noticed: ");
  assertEquals(
    await outcomeOf({ text: "= 3", replacement: "= 4", filter: "three" }),
    "NOT NOTICED: ",
  );
  assertMatch(
    await outcomeOf({ replacement: '"two".no' }),
    /^did not compile: deno check .*error/i,
  );
  assertMatch(
    await outcomeOf({ replacement: 'Number(Deno.readTextFileSync("/nowhere"))' }),
    /^did not compile: deno run .*error/i,
  );
  assertEquals(await outcomeOf({ text: "1 - 1" }), "stale: its text is 0 times in mod.ts");
  assertEquals(await outcomeOf({ text: "export" }), "stale: its text is 2 times in mod.ts");
  assertEquals(await outcomeOf({ file: "gone.ts" }), "stale: there is no gone.ts");
  assertEquals(await outcomeOf({ replacement: "1 + 1" }), "stale: it changes nothing");
  assertMatch(await outcomeOf({ filter: "four" }), /^stale: there is no "four"/);
  assertMatch(await outcomeOf({ filter: "no test" }), /^stale: there is no test/);
  assertMatch(await outcomeOf({ filter: "always fails" }), /^fails without it: /);
});
