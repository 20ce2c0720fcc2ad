import type { Lesson, Stage } from "../lesson.ts";

const BARE = "examples/lab/programs/bare_fork.ts";
const OURS = "examples/lab/programs/random_numbers.ts";

/** What a child has handed over: eight bytes of Math.random(), and 16 of crypto. */
interface Drawn {
  readonly number: number;
  readonly bytes: string;
}

function readDrawn(file: string): Drawn | undefined {
  try {
    const all = Deno.readFileSync(file);
    if (all.length !== 24) return undefined;
    return {
      number: new Float64Array(all.buffer, 0, 1)[0]!,
      bytes: all.subarray(8).toHex(),
    };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Runs a program whose two children write what they have drawn, and returns that. */
async function drawnBy(stage: Stage, program: string, flags: string[]): Promise<Drawn[]> {
  const name = program.split("/").at(-1);
  const folder = `${stage.folder()}/${name}`;
  Deno.mkdirSync(folder);
  const started = await stage.start({ program, args: [folder], flags: ["-A", ...flags] });
  await started.ended();
  const drawn = ["1", "2"].flatMap((child) => readDrawn(`${folder}/${child}`) ?? []);
  stage.expect(
    `children of ${name} that have handed over bytes`,
    drawn.length,
    (count) => count === 2,
    "2",
  );
  drawn.forEach(({ number, bytes }, index) => {
    stage.note(`child ${index + 1} drew`, `${number.toFixed(8)}, ${bytes.slice(0, 16)}...`);
  });
  return drawn;
}

/** Counts how many different results the children have. */
function compare(
  stage: Stage,
  drawn: readonly Drawn[],
  how: string,
  expected: number,
  inWords: string,
): void {
  const sources: Readonly<Record<string, (one: Drawn) => unknown>> = {
    "Math.random()": ({ number }) => number,
    "getRandomValues()": ({ bytes }) => bytes,
  };
  for (const [source, of] of Object.entries(sources)) {
    const count = new Set(drawn.map(of)).size;
    stage.expect(`different ${source}, ${how}`, count, (count) => count === expected, inWords);
  }
}

/** Two children draw random numbers. */
export const lesson: Lesson = {
  name: "random",
  title: "Children draw the same random numbers, unless fork() sees to it",
  source: "Past the sources: what fork() copies",
  question:
    "A program has drawn a random number. Then it forks two children, and each of them calls " +
    "Math.random() and crypto.getRandomValues(). What do they get?",
  answer:
    "A generator is some state in memory, and a function that advances it. fork() copies the state as " +
    "it copies everything, so both children advance the same one and draw the same: session ids, " +
    "temporary file names, keys. tine's fork() has Math.random() draw from the secure generator, and " +
    "the parent throws away what that had in store, once a child has it, so each number is used " +
    "once.",
  programs: [
    { file: OURS, decisive: "const pid = fork();", differsFrom: BARE },
    { file: BARE, decisive: "const pid = libc.fork();" },
  ],
  read: ["fork(2)", "random(7)", "docs/fork.md", BARE, OURS],
  async run(stage) {
    stage.say("First with nothing but the system's fork(2).");
    // Without V8's own threads, for which a child would wait.
    const bare = await drawnBy(stage, BARE, ["--v8-flags=--single-threaded"]);
    compare(stage, bare, "a bare fork(2)", 1, "1: the children have drawn the same");
    stage.say("Then with the same program on tine's fork().");
    compare(stage, await drawnBy(stage, OURS, []), "tine", 2, "2");
  },
};
