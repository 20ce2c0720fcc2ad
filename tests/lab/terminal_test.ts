/** What is to be seen on a terminal: the live drawing comes and goes, and what was said stays. */
import { assert, assertEquals } from "@std/assert";
import type { ClientView, LabEvent, ProcessView, Snapshot } from "../../examples/lab/lesson.ts";
import { draw } from "../../examples/lab/terminal/draw.ts";
import { Terminal } from "../../examples/lab/terminal/terminal.ts";
import { colors, cut, wrap } from "../../examples/lab/terminal/text.ts";

/** A terminal that understands what the lab writes: cursor up, erase to the end. */
class Screen {
  readonly lines: string[] = [""];
  #row = 0;

  write(text: string): void {
    // deno-lint-ignore no-control-regex -- sequences begin with ESC
    for (const part of text.split(/(\x1b\[\d*[AJK]|\n)/)) {
      // deno-lint-ignore no-control-regex
      const up = /^\x1b\[(\d+)A$/.exec(part);
      if (part === "\n") {
        this.#row++;
        this.lines[this.#row] ??= "";
      } else if (up !== null) this.#row -= Number(up[1]);
      else if (part === "\x1b[J") this.lines.splice(this.#row, Infinity, "");
      else if (part === "\x1b[K") {
        // what was written is all of the line: see below
      } else if (part !== "") this.lines[this.#row] = part;
      assert(this.#row >= 0, "the cursor is above the screen");
    }
  }
}

function processOf(pid: number, ppid: number, more: Partial<ProcessView> = {}): ProcessView {
  return {
    pid,
    ppid,
    session: 100,
    role: ppid === 1 ? "server" : "child",
    program: "examples/part3/webserver3f.ts",
    state: "sleeping",
    descriptors: [{ fd: 21, kind: "tcp", target: "socket:[7]", inode: 7 }],
    signals: { pending: [], blocked: [], caught: [] },
    cpu: 0,
    ...more,
  };
}

function clientOf(number: number, state: ClientView["state"]): ClientView {
  const local = `127.0.0.1:${40000 + number}`;
  return { number, state, local, remote: "127.0.0.1:8000", sent: 0, received: 0, seconds: 0 };
}

const SERVER = processOf(100, 1, { call: "ppoll" });

function snapshotOf(more: Partial<Snapshot> = {}): Snapshot {
  return {
    at: 0,
    processes: [SERVER],
    sockets: [{
      inode: 7,
      kind: "tcp",
      state: "LISTEN",
      local: "0.0.0.0:8000",
      remote: "",
      queue: 2,
      limit: 5,
      holders: [{ pid: 100, fd: 21 }],
    }],
    clients: [],
    ...more,
  };
}

Deno.test("a drawing has the tree, the queue, the references and the clients", () => {
  colors.setColorEnabled(false);
  const lines = draw(
    snapshotOf({
      processes: [
        SERVER,
        processOf(101, 100, { state: "zombie", descriptors: [] }),
        processOf(102, 100, { signals: { pending: ["SIGCHLD"], blocked: [], caught: [] } }),
      ],
      clients: [clientOf(1, "hung"), clientOf(2, "waiting")],
    }),
    80,
  );
  assertEquals(lines, [
    "  100 webserver3f  sleeping  fd 21  in ppoll()",
    "  ├─ 101 webserver3f  zombie",
    "  └─ 102 webserver3f  sleeping  fd 21  pending: SIGCHLD",
    "  listener :8000          queue ■■□□□□ 2, backlog 5  1 reference: 100/21",
    "  clients  hung: 1  waiting: 2",
  ]);
});

Deno.test("128 children take one line, and no line is wider than the terminal", () => {
  colors.setColorEnabled(false);
  const children = Array.from(
    { length: 128 },
    (_, i) => processOf(200 + i, 100, { state: i < 57 ? "zombie" : "sleeping", descriptors: [] }),
  );
  const clients = Array.from({ length: 128 }, (_, i) => clientOf(i + 1, "hung"));
  const sockets = Array.from({ length: 128 }, (_, i) => ({
    inode: 1000 + i,
    kind: "tcp" as const,
    state: "ESTABLISHED",
    local: "127.0.0.1:8000",
    remote: `127.0.0.1:${40001 + i}`,
    queue: 0,
    holders: [{ pid: 100, fd: 30 + i }],
  }));
  const snapshot = snapshotOf({ processes: [SERVER, ...children], clients, sockets });
  for (const width of [80, 40]) {
    const lines = draw(snapshot, width);
    assertEquals(lines.length, 5);
    assert(lines.every((line) => [...line].length <= width), lines.join("\n"));
  }
  const text = draw(snapshot, 80).join("\n");
  for (const part of ["57 × webserver3f  zombie", "71 ×", "128 × connection", "hung: 128"]) {
    assert(text.includes(part), text);
  }
});

Deno.test("the live drawing is written over, and what was said stays", () => {
  colors.setColorEnabled(false);
  const screen = new Screen();
  const size = () => ({ columns: 80, rows: 24 });
  const write = (text: string) => screen.write(text);
  const terminal = new Terminal({ isTerminal: true, write, size });
  const show = (...events: LabEvent[]) => events.forEach((event) => terminal.show(event));
  const seen = () => screen.lines.filter((line) => line !== "");
  show(
    { type: "command", text: "first" },
    { type: "snapshot", snapshot: snapshotOf({ clients: [clientOf(1, "waiting")] }) },
    { type: "progress", text: "a zombie", seconds: 0.5 },
  );
  assertEquals(seen().length, 1 + 4 + 1);
  assertEquals(seen().at(-1), "  … a zombie, 0.5 s");
  show(
    { type: "snapshot", snapshot: snapshotOf() },
    { type: "command", text: "second" },
    { type: "say", text: "third" },
  );
  assertEquals(seen().slice(0, 4), ["$ first", "$ second", "  third", "  now"]);
  assertEquals(seen().length, 3 + 3);
  terminal.clear();
  assertEquals(seen(), ["$ first", "$ second", "  third"]);
});

Deno.test("a live drawing higher than the terminal is cut off", () => {
  const screen = new Screen();
  const write = (text: string) => screen.write(text);
  const terminal = new Terminal({
    isTerminal: true,
    write,
    size: () => ({ columns: 80, rows: 4 }),
  });
  const snapshot = snapshotOf({ clients: [clientOf(1, "waiting")] });
  for (let i = 0; i < 3; i++) terminal.show({ type: "snapshot", snapshot });
  assertEquals(screen.lines.filter((line) => line !== "").length, 2);
});

Deno.test("what is written into a file has no live drawing", () => {
  let text = "";
  const write = (part: string) => text += part;
  const terminal = new Terminal({
    isTerminal: false,
    write,
    size: () => ({ columns: 80, rows: 24 }),
  });
  terminal.show({ type: "snapshot", snapshot: snapshotOf() });
  terminal.show({ type: "progress", text: "a zombie", seconds: 1 });
  terminal.show({ type: "command", text: "true" });
  assertEquals(text, "$ true\n");
});

Deno.test("styled text is measured without its styles, and cut off with them", () => {
  const styled = "\x1b[31m0123456789\x1b[39m tail";
  const short = cut(styled, 6);
  assertEquals(colors.stripAnsiCode(short), "01234…");
  assert(short.includes("\x1b[39m"), "the style ends");
  assertEquals(wrap("one two three four", 10, "  "), ["  one two", "  three", "  four"]);
});
