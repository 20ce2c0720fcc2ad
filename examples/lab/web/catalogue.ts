/** What readers can choose from: the lessons and the programs, with their sources. */
import type { Lesson } from "../lesson.ts";
import { LESSONS } from "../lessons/all.ts";
import { difference, type DifferenceLine } from "./difference.ts";
import { LIMITS } from "./limits.ts";
import { PROGRAMS } from "./programs.ts";
import { Refusal } from "./refusal.ts";

const ROOT = new URL("../../../", import.meta.url);

/** The lessons and programs, with their sources. */
export interface Catalogue {
  /** All of it, as the page gets it. */
  readonly all: unknown;
  /**
   * Returns a program's source.
   *
   * @param file Its path from the root.
   * @throws {Refusal} If it belongs neither to a lesson nor to the programs.
   */
  source(file: string | null): Promise<Source>;
  /**
   * Compares two programs.
   *
   * @param from The path of the first one.
   * @param to The path of the second one.
   * @throws {Refusal} As `source()` does.
   */
  difference(from: string | null, to: string | null): Promise<Difference>;
}

/** A program's source. */
export interface Source {
  readonly file: string;
  readonly text: string;
  /** The numbers of the lines that matter, from 1. */
  readonly decisive: readonly number[];
  /** The program of the stage before. */
  readonly differsFrom?: string;
}

/** The difference of two programs. */
export interface Difference {
  readonly from: string;
  readonly to: string;
  readonly lines: readonly DifferenceLine[];
}

/** Loads the lessons. */
export async function loadCatalogue(): Promise<Catalogue> {
  const lessons = await Promise.all(LESSONS.map((entry) => entry.load()));
  const views = lessons.flatMap(({ programs }) => programs);
  const programs = PROGRAMS.map(({ file, title = titleOf(file), serves, times, differsFrom }) => ({
    file,
    title,
    serves,
    arguments: times,
    decisive: decisiveOf(file)[0],
    differsFrom,
  }));
  const files = new Set([...PROGRAMS, ...views].flatMap((view) => [view.file, view.differsFrom]));

  function decisiveOf(file: string): string[] {
    return [
      ...new Set(views.flatMap((view) => view.file === file && view.decisive ? view.decisive : [])),
    ];
  }

  async function source(file: string | null): Promise<Source> {
    if (file === null || !files.has(file)) {
      throw new Refusal(404, "Only the sources of the lab's programs are shown");
    }
    const text = await Deno.readTextFile(new URL(file, ROOT));
    const lines = text.split("\n");
    const decisive = decisiveOf(file)
      .flatMap((text) => lines.flatMap((line, i) => line.includes(text) ? i + 1 : []));
    const differsFrom = [...PROGRAMS, ...views].find((view) =>
      view.file === file && view.differsFrom !== undefined
    )?.differsFrom;
    return { file, text, decisive, ...differsFrom !== undefined && { differsFrom } };
  }

  return {
    all: {
      lessons: lessons.map(withoutAnswer),
      programs,
      signals: LIMITS.signals,
      limits: {
        names: LIMITS.resources,
        clients: LIMITS.clients,
        clientsAtOnce: LIMITS.clientsAtOnce,
        programs: LIMITS.programs,
        minutes: LIMITS.minutes,
      },
    },
    source,
    async difference(from, to) {
      const [first, second] = [await source(from), await source(to)];
      return {
        from: first.file,
        to: second.file,
        lines: difference(first.text, second.text),
      };
    },
  };
}

/** The answer comes with the verdict. */
function withoutAnswer({ name, title, source, question, programs, read, next }: Lesson): unknown {
  return { name, title, source, question, programs, read, next };
}

/** A program's first line is its title. */
function titleOf(file: string): string {
  return Deno.readTextFileSync(new URL(file, ROOT)).match(/^\/\/ (.*)$/m)?.[1] ?? file;
}
