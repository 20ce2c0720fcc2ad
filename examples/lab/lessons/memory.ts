import { get, workersOf } from "./workers.ts";
import type { Lesson } from "../lesson.ts";

const APP = "examples/lab/programs/table.ts";
const TABLE = 64;
const WRITTEN = 32;
/** What a worker may write to on its own account while it answers a request: its heap, its stack. */
const OWN_WORK = 16;

/** The memory of a process, in MiB. */
interface Memory {
  readonly resident: number;
  readonly private: number;
  readonly shared: number;
  /** Its private memory, and its part of what it shares. */
  readonly proportional: number;
}

/** Reads what proc(5) says about all mappings of a process together. */
function memoryOf(pid: number): Memory {
  const text = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
  const mebibytes = (name: string) =>
    Number(text.match(new RegExp(`^${name}: +(\\d+) kB`, "m"))![1]) / 1024;
  return {
    resident: mebibytes("Rss"),
    private: mebibytes("Private_Clean") + mebibytes("Private_Dirty"),
    shared: mebibytes("Shared_Clean") + mebibytes("Shared_Dirty"),
    proportional: mebibytes("Pss"),
  };
}

/** Workers have the memory of the process that forked them, until they write to it. */
export const lesson: Lesson = {
  name: "memory",
  title: "Workers share memory until they write to it",
  source: "Past the sources: copy-on-write",
  question:
    `A server fills a table of ${TABLE} MiB and forks two workers, which have the table too. How ` +
    `much memory is that for all three? One of the workers then reads the table, and after that it ` +
    `writes to ${WRITTEN} MiB of it. What does each of these cost, and whom?`,
  answer:
    "fork() copies no memory. It gives the child page tables that lead to the parent's pages, and " +
    "write-protects these for both. A write to such a page makes the kernel copy it: the writer has " +
    "a page of its own from then on, and the others keep the old one. So what is loaded before the " +
    "fork and only read after it is there once, however many workers there are.",
  programs: [{ file: APP, decisive: "table[at]!++;" }],
  read: ["fork(2)", "proc(5): /proc/PID/smaps_rollup", APP, "docs/fork.md"],
  next: "crash",
  async run(stage) {
    const server = await stage.start({
      program: "server/cli.ts",
      args: ["serve", APP, "--host", "127.0.0.1", "--port", "PORT", "--workers", "2"],
      flags: ["-A"],
    });
    const workers = await workersOf(stage, server, 2);
    const look = () => new Map([server.pid, ...workers].map((pid) => [pid, memoryOf(pid)]));
    const round = (number: number) => Math.round(number * 10) / 10;
    const note = (when: string) => {
      for (const [pid, memory] of look()) {
        stage.note(
          `${pid === server.pid ? "master" : "worker"} ${pid}, ${when}, in MiB`,
          `${round(memory.private)} own, ${round(memory.shared)} shared, ` +
            `${round(memory.proportional)} PSS`,
        );
      }
    };
    /** Has one worker answer a request, and returns how much private memory each has more. */
    const growth = async (path: string) => {
      const before = look();
      const client = stage.client(server.port!, { request: get(path) });
      await client.ended();
      const after = look();
      return workers.map((pid) => after.get(pid)!.private - before.get(pid)!.private)
        .toSorted((a, b) => b - a).map(round);
    };

    note("after the fork");
    stage.draw("A master and two workers, which have the same table");
    const all = [...look().values()];
    const sum = (of: (memory: Memory) => number) =>
      round(all.reduce((total, memory) => total + of(memory), 0));
    stage.expect(
      "least that one of them shares, in MiB",
      round(Math.min(...all.map(({ shared }) => shared))),
      (shared) => shared >= TABLE,
      `at least ${TABLE}, the table's`,
    );
    stage.note("MiB, each process by itself", sum(({ resident }) => resident));
    stage.note("MiB, what is shared counted once", sum(({ proportional }) => proportional));
    stage.expect(
      "MiB that sharing saves",
      round(sum(({ resident }) => resident) - sum(({ proportional }) => proportional)),
      (saved) => saved >= 2 * TABLE,
      `at least ${2 * TABLE}, two tables`,
    );

    stage.say("A worker reads the whole table.");
    const [reader] = await growth("/read");
    stage.expect(
      "MiB more of its own after reading",
      reader!,
      (grown) => grown < OWN_WORK,
      `less than ${OWN_WORK}, for its own work`,
    );

    stage.say(`A worker writes to ${WRITTEN} MiB of the table, one byte in each page.`);
    const [writer, other] = await growth(`/write/${WRITTEN}`);
    note("after the write");
    stage.expect(
      "MiB more of its own after writing",
      writer!,
      (grown) => grown >= WRITTEN - 1 && grown < WRITTEN + OWN_WORK,
      `${WRITTEN}, and less than ${OWN_WORK} for its own work`,
    );
    stage.expect(
      "MiB more of the other worker's own",
      other!,
      (grown) => grown < OWN_WORK,
      `less than ${OWN_WORK}`,
    );
  },
};
