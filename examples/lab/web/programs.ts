/** The programs that a reader can start, and no others. */
import type { Command } from "../lesson.ts";
import { Refusal } from "./refusal.ts";

/** A program that can be started. */
export interface Program {
  /** The path of the source that is shown, from the root. */
  readonly file: string;
  /** Its title, if that is not the first line of the source. */
  readonly title?: string;
  /** Whether it listens on a port. */
  readonly serves: boolean;
  /** Times that can be chosen, in the order of its own arguments. */
  readonly times: readonly Time[];
  /** The program of the stage before. */
  readonly differsFrom?: string;
  /** Whether it keeps a file in the directory where it runs. */
  readonly keepsFile?: boolean;
  /** Whether it shows a limit that does not count for root. */
  readonly isForUsers?: boolean;
  /** How it is started, if not by its file with a port and the times. */
  readonly command?: Command;
}

/** A number of seconds that can be chosen. */
export interface Time {
  readonly name: string;
  readonly label: string;
  /** The default. */
  readonly value: number;
  readonly min: number;
  readonly max: number;
}

const SLEEP = [time("seconds", "Sleep after each response", 10)];
const SLEEPS = [
  time("childSeconds", "Sleep of the child", 5),
  time("parentSeconds", "Sleep of the parent", 20),
];

/** All of them, in the order of the texts. */
export const PROGRAMS: readonly Program[] = [
  stage("3a"),
  stage("3b", "3a", SLEEP),
  stage("3c", "3b", SLEEP),
  stage("3d", "3c"),
  stage("3e", "3d", [{ ...SLEEP[0]!, value: 3 }]),
  stage("3f", "3e"),
  stage("3g", "3f"),
  {
    ...stage("3h", "3g"),
    command: {
      program: "examples/part3/webserver3h.ts",
      args: ["examples/apps/hello.ts", "PORT"],
      flags: ["--allow-all"],
    },
  },
  { file: "examples/part3/from_scratch.ts", serves: true, times: [] },
  { file: "examples/chapter20/zombieprob.ts", serves: false, times: SLEEPS },
  { file: "examples/chapter20/zombiesol.ts", serves: false, times: SLEEPS },
  { file: "examples/chapter20/zombiepoll.ts", serves: false, times: SLEEPS },
  { file: "examples/chapter20/echoserver.ts", serves: true, times: [] },
  { file: "examples/chapter20/lockingserver.ts", serves: true, times: [], keepsFile: true },
  { file: "examples/chapter20/errorserver.ts", serves: true, times: [], isForUsers: true },
  {
    file: "examples/apps/hello.ts",
    title: "Preforking server: workers that share a listening socket",
    serves: true,
    times: [],
    command: {
      program: "server/cli.ts",
      args: ["serve", "examples/apps/hello.ts", "--port", "PORT", "--workers", "2"],
      flags: ["--allow-all"],
    },
  },
];

/**
 * Returns the program of a file.
 *
 * @param file The path of its source, from the root.
 * @throws {Refusal} If it is not listed.
 */
export function programOf(file: unknown): Program {
  const program = PROGRAMS.find((program) => program.file === file);
  if (program === undefined) throw new Refusal(400, `${quote(file)} is not a program of the lab`);
  return program;
}

/**
 * Returns the command that starts a program.
 *
 * @param program The program.
 * @param given The times that were chosen, by their names.
 * @throws {Refusal} If one is not among the program's, or out of range.
 */
export function commandOf(program: Program, given: unknown = {}): Command {
  if (typeof given !== "object" || given === null) {
    throw new Refusal(400, "The arguments must be an object");
  }
  const chosen = given as Record<string, unknown>;
  const unknown = Object.keys(chosen)
    .find((name) => !program.times.some((time) => time.name === name));
  if (unknown !== undefined) {
    throw new Refusal(400, `${program.file} has no argument ${quote(unknown)}`);
  }
  const times = program.times.map(({ name, value, min, max }) => {
    const seconds = chosen[name] ?? value;
    if (typeof seconds !== "number" || !(seconds >= min && seconds <= max)) {
      throw new Refusal(400, `${name} must be a number from ${min} to ${max}`);
    }
    return String(Math.round(seconds * 10) / 10);
  });
  const { file, serves } = program;
  return program.command ?? { program: file, args: [...serves ? ["PORT"] : [], ...times] };
}

function quote(value: unknown): string {
  return JSON.stringify(String(value).slice(0, 100));
}

function time(name: string, label: string, value: number): Time {
  return { name, label: `${label}, in seconds`, value, min: 0, max: 120 };
}

/** A server of the article. */
function stage(name: string, before?: string, times: readonly Time[] = []): Program {
  const fileOf = (name: string) => `examples/part3/webserver${name}.ts`;
  return {
    file: fileOf(name),
    serves: true,
    times,
    ...before !== undefined && { differsFrom: fileOf(before) },
  };
}
