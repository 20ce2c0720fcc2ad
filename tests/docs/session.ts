/** A reader who goes through a section of the documentation, in a shell. */
import { endMarked } from "../clean_up.ts";
import { childrenOf, processState, until } from "../support.ts";
import { compare, type Words } from "./compare.ts";
import type { Command, Output, Section, Step } from "./page.ts";

/** What became of a command. */
export interface Outcome {
  readonly step: Step;
  readonly verdict: "passed" | "failed" | "skipped";
  /** Why it failed or was skipped, in lines. */
  readonly reason?: readonly string[];
}

/** Where sections are run. */
export interface Place {
  /** A checkout, in which programs may leave files. */
  readonly checkout: string;
  /** A folder for the shells' own files. */
  readonly folder: string;
  /** The shells' environment. */
  readonly env: Readonly<Record<string, string>>;
  /** How long to wait for a line that is expected, in milliseconds. */
  readonly patience: number;
}

/** How long a command may take, in milliseconds. */
const LONGEST = 60_000;

/** The variable that marks what a section has started. */
const MARK = "TINE_DOCS_SECTION";
let sections = 0;

/** Goes through a section. What it has started is ended. */
export async function runSection(section: Section, place: Place): Promise<Outcome[]> {
  const mark = `${Deno.pid}-${++sections}`;
  const reader = new Reader(section, place, mark);
  try {
    const outcomes: Outcome[] = [];
    for (const step of section.steps) {
      const outcome = await reader.take(step);
      if (outcome !== undefined) outcomes.push(outcome);
      if (outcome?.verdict === "failed") break; // what follows depends on it
    }
    return outcomes;
  } finally {
    await reader.leave();
  }
}

/** A program of the section's, and what it has printed into its file. */
interface Running {
  readonly file: string;
  /** How much of what it has printed has been compared. */
  seen: number;
}

class Reader {
  #shell: Deno.ChildProcess;
  #writer: WritableStreamDefaultWriter<Uint8Array>;
  #replies = "";
  #reading: Promise<void>;
  #ready: Promise<void>;
  #place: Place;
  #mark: string;
  #words: Words = new Map();
  #ports: Map<string, number>;
  #count = 0;
  #last: Running | undefined;
  #inBackground = new Set<number>();

  constructor(section: Section, place: Place, mark: string) {
    this.#place = place;
    this.#mark = mark;
    this.#ports = new Map(portsIn(section).map((port) => [port, freePort()]));
    this.#shell = new Deno.Command("bash", {
      args: ["--noprofile", "--norc"],
      cwd: place.checkout,
      env: { ...place.env, ...homeIn(`${place.folder}/${mark}`), [MARK]: mark },
      stdin: "piped",
      stdout: "piped",
      stderr: "null", // "Terminated", of a program that a section has ended
      detached: true,
    }).spawn();
    this.#writer = this.#shell.stdin.getWriter();
    this.#reading = this.#read();
    // As in a terminal: aliases, a process group for each command, and no end by Control-C.
    this.#ready = this.#type("shopt -s expand_aliases; set -m; trap : INT");
  }

  /** Does what a step says. */
  async take(step: Step): Promise<Outcome | undefined> {
    switch (step.kind) {
      case "file": {
        const folder = Deno.readLinkSync(`/proc/${this.#shell.pid}/cwd`);
        Deno.writeTextFileSync(`${folder}/${step.name}`, this.#translate(step.text));
        return undefined;
      }
      case "preparation": {
        const { file, status } = await this.#run(step.text);
        if (status === 0) return undefined;
        const output = Deno.readTextFileSync(file).trimEnd().split("\n");
        return { step, verdict: "failed", reason: [`it ended with status ${status}:`, ...output] };
      }
      case "output":
        return await this.#await(step, this.#last!);
      case "command":
        if (step.skipped !== undefined) {
          return { step, verdict: "skipped", reason: [step.skipped] };
        }
        if (step.background) return await this.#start(step);
        if (step.interrupted) return await this.#interrupt(step);
        return await this.#try(step);
    }
  }

  /** Ends all that the section has started. */
  async leave(): Promise<void> {
    await this.#ready;
    this.#writer.releaseLock();
    endMarked(MARK, this.#mark);
    await this.#shell.status;
    await this.#reading;
  }

  /** Runs a command to its end, and compares what it has printed. */
  async #try(step: Command): Promise<Outcome> {
    const begin = performance.now();
    for (;;) {
      const { file, status } = await this.#run(step.text, step.input);
      const text = this.#textOf(file);
      const comparison = step.expected === undefined
        ? { matches: true, differs: 0 }
        : compare(this.#lines(step.expected), text, this.#words, true);
      if (comparison.matches) {
        if (step.expected !== undefined || status === 0) return { step, verdict: "passed" };
        return {
          step,
          verdict: "failed",
          reason: [`it ended with status ${status}:`, ...shorten(text)],
        };
      }
      if (!step.again || performance.now() - begin > this.#place.patience) {
        return this.#differs(step, text, comparison.differs);
      }
    }
  }

  /** Starts a command, and waits until it has printed what it should. */
  async #start(step: Command): Promise<Outcome> {
    const [script, file] = this.#script(step.text);
    await this.#type(`{ . ${script}; } </dev/null >${file} 2>&1 &`);
    const pid = Number(await this.#ask(`printf '%s' $!`));
    this.#inBackground.add(pid);
    this.#last = { file, seen: 0 };
    return await this.#await(step, this.#last);
  }

  /** Starts a command, waits until it has printed what it should, and presses Control-C. */
  async #interrupt(step: Command): Promise<Outcome> {
    const [script, file] = this.#script(step.text);
    let hasEnded = false;
    const end = this.#ask(`{ . ${script}; } </dev/null >${file} 2>&1`).then(() => hasEnded = true);
    const outcome = await this.#await(step, { file, seen: 0 });
    // Of two commands in a line, the second may be about to begin.
    const group = await until(() => hasEnded || this.#inForeground(), "a process", LONGEST);
    if (group === true) {
      return { step, verdict: "failed", reason: ["it has ended, and did not wait for ^C"] };
    }
    Deno.kill(-group, "SIGINT");
    await end;
    return outcome;
  }

  /** The process group that a terminal would send signals to. */
  #inForeground(): number | undefined {
    return childrenOf(this.#shell.pid)
      .find((pid) => !this.#inBackground.has(pid) && processState(pid)?.state !== "Z");
  }

  /** Waits until a program has printed what it should. */
  async #await(step: Command | Output, running: Running): Promise<Outcome> {
    const expected = this.#lines(step.expected ?? []);
    const look = () => this.#textOf(running.file).slice(running.seen);
    try {
      await until(
        () => {
          const { matches, length } = compare(expected, look(), this.#words, false);
          if (matches) running.seen += length;
          return matches;
        },
        "the output",
        this.#place.patience,
      );
      return { step, verdict: "passed" };
    } catch {
      const text = look();
      return this.#differs(step, text, compare(expected, text, this.#words, false).differs);
    }
  }

  #differs(step: Command | Output, text: string, differs: number): Outcome {
    const expected = this.#lines(step.expected!);
    const mark = (line: string, i: number) => `${i === differs ? ">" : " "} ${line}`;
    return {
      step,
      verdict: "failed",
      reason: [
        "the page says:",
        ...expected.map(mark),
        ...differs === expected.length ? ["> (no more)"] : [],
        "it printed:",
        ...text === "" ? ["  (nothing)"] : shorten(text).map((line) => `  ${line}`),
      ],
    };
  }

  /** Runs commands in the foreground. */
  async #run(
    text: string,
    input: readonly string[] = [],
  ): Promise<{ file: string; status: number }> {
    const [script, file] = this.#script(text);
    const typed = `${file}.in`;
    Deno.writeTextFileSync(typed, input.map((line) => `${this.#translate(line)}\n`).join(""));
    const status = await this.#ask(`{ . ${script}; } <${typed} >${file} 2>&1; printf '%s' $?`);
    return { file, status: Number(status) };
  }

  /** Writes a script for the shell to read, and gives the name of the file for its output. */
  #script(text: string): [script: string, output: string] {
    const base = `${this.#place.folder}/${this.#mark}-${++this.#count}`;
    Deno.writeTextFileSync(`${base}.sh`, `${this.#translate(text)}\n`);
    Deno.writeTextFileSync(`${base}.txt`, "");
    return [`${base}.sh`, `${base}.txt`];
  }

  async #type(line: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
  }

  /** Has the shell do something, and gives what it says then. */
  async #ask(line: string): Promise<string> {
    this.#replies = "";
    await this.#type(`${line}\necho .`);
    return (await until(
      () => /^(.*)\.\n$/.exec(this.#replies),
      `the end of ${line}`,
      LONGEST,
    ))[1]!;
  }

  async #read(): Promise<void> {
    for await (const text of this.#shell.stdout.pipeThrough(new TextDecoderStream())) {
      this.#replies += text;
    }
  }

  /** What a program has printed: in whole lines, without colours and what npx and `deno task` say of themselves. */
  #textOf(file: string): string {
    return Deno.readTextFileSync(file)
      // deno-lint-ignore no-control-regex
      .replace(/\x1b\[[\d;]*m|\r/g, "")
      .replace(/^(Task \w|npm (warn|notice)).*\n/gm, "")
      .replace(/[^\n]$/, "$&\n");
  }

  #lines(lines: readonly string[]): string[] {
    return lines.map((line) => this.#translate(line));
  }

  /** Puts free ports where the page has ports that may be taken. */
  #translate(text: string): string {
    return text.replace(/\b\d{4,5}\b/g, (port) => `${this.#ports.get(port) ?? port}`);
  }
}

/** Makes a reader's home directory, and gives the variables that lead there. */
function homeIn(folder: string): Record<string, string> {
  Deno.mkdirSync(`${folder}/.local/bin`, { recursive: true });
  // As at a terminal: what has arrived is shown at once, and no progress.
  Deno.writeTextFileSync(`${folder}/.curlrc`, "no-buffer\nno-progress-meter\n");
  return { HOME: folder, CURL_HOME: folder };
}

/** The ports that a section's readers use. */
function portsIn(section: Section): string[] {
  const texts = section.steps.flatMap((step) =>
    "text" in step ? [step.text, ...step.kind === "command" ? step.expected ?? [] : []] : []
  );
  const ports = texts.join("\n").matchAll(
    /(?:(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])[: ]|listen\(|--port[ =]|\bPORT=)(\d{4,5})\b/g,
  );
  return [...new Set([...ports].map(([, port]) => port!))];
}

/** The first and the last lines of a text. */
function shorten(text: string): string[] {
  const lines = text.trimEnd().split("\n");
  if (lines.length <= 40) return lines;
  return [...lines.slice(0, 20), `(${lines.length - 30} lines more)`, ...lines.slice(-10)];
}

const given = new Set<number>();

/** A port that is free, and that no other section gets. */
function freePort(): number {
  for (;;) {
    using listener = Deno.listen({ hostname: "0.0.0.0", port: 0 });
    const { port } = listener.addr;
    if (given.has(port)) continue;
    given.add(port);
    return port;
  }
}
