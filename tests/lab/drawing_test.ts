// The drawing says what the snapshot says: an arrow for each reference, a sign for each state.
import { assert, assertEquals } from "@std/assert";
import { drawShapes, drawSnapshot } from "../../examples/lab/web/page/drawing.js";
import { Places } from "../../examples/lab/web/page/drawing/places.js";
import type { ProcessView, Snapshot, SocketView } from "../../examples/lab/lesson.ts";

function process(pid: number, ppid: number, more: Partial<ProcessView> = {}): ProcessView {
  return {
    pid,
    ppid,
    session: 10,
    role: ppid === 1 ? "server" : "child",
    program: "examples/part3/webserver3d.ts",
    state: "sleeping",
    descriptors: [],
    signals: { pending: [], blocked: [], caught: [] },
    cpu: 0,
    ...more,
  };
}

function connection(inode: number, holders: SocketView["holders"]): SocketView {
  return {
    inode,
    kind: "tcp",
    state: "ESTABLISHED",
    local: "127.0.0.1:80",
    remote: `127.0.0.1:${inode}`,
    queue: 0,
    holders,
  };
}

/** A server with `count` children, each with a connection of its own. */
function family(count: number): Snapshot {
  const pids = Array.from({ length: count }, (_, index) => 100 + index);
  return {
    at: 0,
    processes: [
      process(10, 1),
      ...pids.map((pid) =>
        process(pid, 10, {
          descriptors: [{ fd: 4, kind: "tcp", target: `socket:[${pid}]`, inode: pid }],
        })
      ),
    ],
    sockets: pids.map((pid) => connection(pid, [{ pid, fd: 4 }])),
    clients: [],
  };
}

/** The values of an attribute, in the order in which they are drawn. */
function values(svg: string, name: string): string[] {
  return [...svg.matchAll(new RegExp(` ${name}="([^"]*)"`, "g"))].map((match) => match[1]!);
}

Deno.test("drawSnapshot() draws an arrow for each descriptor that refers to a socket", () => {
  for (const count of [1, 3, 20, 128]) {
    const svg = drawSnapshot(family(count));
    assertEquals(
      values(svg, "data-arrow").sort(),
      Array.from({ length: count }, (_, index) => `${100 + index}:4`).sort(),
    );
    assertEquals(values(svg, "data-references"), Array(count).fill("1"));
    assertEquals(values(svg, "data-pid").length, count + 1);
  }
});

Deno.test("drawSnapshot() draws the arrows of a process with 250 connections", () => {
  const fds = Array.from({ length: 250 }, (_, index) => index + 3);
  const svg = drawSnapshot({
    ...family(0),
    processes: [
      process(10, 1, {
        descriptors: fds.map((fd) => ({ fd, kind: "tcp", target: "socket", inode: 1000 + fd })),
      }),
    ],
    sockets: fds.map((fd) => connection(1000 + fd, [{ pid: 10, fd }])),
  });
  assertEquals(values(svg, "data-arrow").sort(), fds.map((fd) => `10:${fd}`).sort());
  assertEquals(values(svg, "data-fd").map(Number), fds);
});

Deno.test("drawSnapshot() shows the accept queue, and what is beyond the backlog", () => {
  const listener = { ...connection(5, [{ pid: 10, fd: 3 }]), state: "LISTEN", queue: 3, limit: 2 };
  const svg = drawSnapshot({ ...family(0), sockets: [listener] });
  assertEquals(values(svg, "class").filter((name) => name.startsWith("slot")), [
    "slot full",
    "slot full",
    "slot full beyond",
  ]);
  assert(svg.includes("accept queue 3 of 2"));
});

Deno.test("drawSnapshot() says in words what it shows", () => {
  const snapshot = {
    ...family(1),
    processes: [
      process(10, 1, {
        call: "accept4",
        signals: { pending: ["SIGCHLD"], blocked: [], caught: ["SIGCHLD"] },
      }),
      process(11, 10, { state: "zombie" }),
    ],
  };
  const svg = drawSnapshot(snapshot);
  const description = svg.match(/<desc>(.*)<\/desc>/)![1]!;
  assert(description.includes("Process 10, child of 1, is sleeping in accept4"), description);
  assert(description.includes("Process 11, child of 10, is zombie"), description);
  assert(description.includes("SIGCHLD is pending for process 10"), description);
  assert(svg.includes("SIGCHLD pending") && svg.includes("handles SIGCHLD"));
});

Deno.test("drawSnapshot() escapes what the kernel reports", () => {
  const descriptors = [{ fd: 7, kind: "file" as const, target: '/tmp/<b>&"' }];
  const svg = drawSnapshot({ ...family(0), processes: [process(10, 1, { descriptors })] });
  assert(!svg.includes("<b>"));
  assert(svg.includes("/tmp/&lt;b&gt;&amp;"));
});

Deno.test("a process keeps its place when others come and go", () => {
  const places = new Places();
  const position = (snapshot: Snapshot, pid: number) =>
    JSON.stringify(drawShapes(snapshot, { places })).match(
      new RegExp(`"data-pid":"${pid}".*?"x":"([\\d.]+)","y":"([\\d.]+)"`),
    )!.slice(1);
  const all = family(20);
  const before = position(all, 110);
  const fewer: Snapshot = {
    ...all,
    processes: all.processes.filter(({ pid }) => pid === 10 || pid >= 110),
    sockets: all.sockets.slice(10),
  };
  assertEquals(position(fewer, 110), before);
  const height = drawShapes(all, { places }).attributes.height;
  assertEquals(drawShapes(family(0), { places }).attributes.height, height);
});
