// @ts-check
import { box, portOf, tiles } from "./canvas.js";
import { counts } from "./counts.js";
import { glyph, PROCESS_STATES } from "./glyphs.js";
import { shape, text, widthOf } from "./shapes.js";

/** @import { Block, Canvas } from "./canvas.js" */
/** @import { Shape } from "./shapes.js" */
/** @import { DescriptorView, ProcessView } from "../../../lesson.ts" */

const INDENT = 22;
const GAP = 10;
/** Children of one process that are drawn as cards; more are drawn as tiles. */
const CHILDREN = 3;
/** Descriptors with a line each, then with a numbered cell each, then with a dot each. */
const LINES = 8;
const CELLS = 40;
/** Signals whose handlers every process of Deno's has: V8's and the C library's. */
const OWN_SIGNALS = /^SIG(BUS|SEGV|ILL|FPE|TRAP|ABRT|3[234])$/;
const STANDARD = ["stdin", "stdout", "stderr"];

/**
 * Draws the processes as a tree.
 *
 * @param {Canvas} canvas
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
export function drawProcesses(canvas, x, y, width) {
  const { processes } = canvas.snapshot;
  const pids = new Set(processes.map((process) => process.pid));
  const roots = processes.filter((process) => !pids.has(process.ppid));
  return drawSiblings(canvas, roots, "roots", x, y, width);
}

/**
 * @param {Canvas} canvas
 * @param {readonly ProcessView[]} siblings
 * @param {string} group
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawSiblings(canvas, siblings, group, x, y, width) {
  const given = canvas.places.assign(group, siblings.map((process) => String(process.pid)));
  /** @type {Map<number, ProcessView>} */
  const byPlace = new Map();
  for (const process of siblings) byPlace.set(given.get(String(process.pid)) ?? 0, process);
  const most = canvas.places.most(group, Math.max(0, ...[...byPlace.keys()].map((n) => n + 1)));
  /** @type {Shape[]} */
  const shapes = [];
  let top = y;
  for (let place = 0; place < most; place++) {
    const process = byPlace.get(place);
    let height = 0;
    if (process !== undefined) {
      const block = drawProcess(canvas, process, x, top, width);
      shapes.push(...block.shapes);
      height = block.height;
    }
    top += canvas.places.most(`${group} ${place}`, height) + GAP;
  }
  return { shapes, height: most === 0 ? 0 : top - y - GAP };
}

/**
 * @param {Canvas} canvas
 * @param {ProcessView} process
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawProcess(canvas, process, x, y, width) {
  const children = canvas.snapshot.processes.filter((child) => child.ppid === process.pid);
  const card = drawCard(canvas, process, children, x, y, width);
  const group = `children ${process.pid}`;
  const many = canvas.places.most(`number of ${group}`, children.length) > CHILDREN;
  const below = y + card.height + GAP;
  const block = many
    ? drawTiles(canvas, descendants(canvas, process.pid), group, x + INDENT, below, width - INDENT)
    : drawSiblings(canvas, children, group, x + INDENT, below, width - INDENT);
  /** @type {Shape[]} */
  const branches = [];
  if (many) {
    branches.push(branch(process.pid, x + 10, y + card.height, below + 10, x + INDENT - 4, false));
  } else {
    for (const child of children) {
      const at = canvas.tops.get(child.pid);
      if (at === undefined) continue;
      const tells = child.state === "zombie" && process.signals.pending.includes("SIGCHLD");
      branches.push(branch(child.pid, x + 10, y + card.height, at + 15, x + INDENT, tells));
    }
  }
  return {
    shapes: [...branches, ...card.shapes, ...block.shapes],
    height: card.height + (block.height === 0 ? 0 : GAP + block.height),
  };
}

/**
 * @param {number} pid
 * @param {number} x
 * @param {number} from
 * @param {number} to
 * @param {number} end
 * @param {boolean} tells Whether a signal for this child is pending.
 * @returns {Shape}
 */
function branch(pid, x, from, to, end, tells) {
  return shape("path", {
    key: `branch ${pid}`,
    class: `branch${tells ? " pending" : ""}`,
    d: `M${x} ${from}V${to}H${end}`,
  });
}

/**
 * @param {Canvas} canvas
 * @param {number} pid
 * @returns {ProcessView[]}
 */
function descendants(canvas, pid) {
  return canvas.snapshot.processes.filter((process) => process.ppid === pid).flatMap((
    child,
  ) => [child, ...descendants(canvas, child.pid)]);
}

/**
 * @param {Canvas} canvas
 * @param {readonly ProcessView[]} children
 * @param {string} group
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawTiles(canvas, children, group, x, y, width) {
  const head = counts(PROCESS_STATES, children, x, y, width);
  const given = canvas.places.assign(`tiles ${group}`, children.map((child) => String(child.pid)));
  const most = canvas.places.most(
    `tiles ${group}`,
    Math.max(0, ...[...given.values()].map((n) => n + 1)),
  );
  const grid = tiles(most, width);
  const shapes = children.map((child) => {
    const offset = grid.at(given.get(String(child.pid)) ?? 0);
    const left = x + offset.x;
    const top = y + head.height + offset.y;
    for (const descriptor of child.descriptors) {
      canvas.descriptors.set(`${child.pid}:${descriptor.fd}`, {
        x: left,
        y: top + grid.side / 2,
        thin: true,
      });
    }
    return shape("g", {
      key: `process ${child.pid}`,
      class: `tile ${child.state}${selected(canvas, child)}`,
      "data-pid": child.pid,
      "data-state": child.state,
    }, [
      shape("title", { key: "title" }, `Process ${child.pid}: ${child.state}`),
      box(left, top, grid.side, grid.side, 4),
      glyph(child.state, left + grid.side / 2, top + grid.side / 2),
    ]);
  });
  return { shapes: [...head.shapes, ...shapes], height: head.height + grid.height };
}

/**
 * @param {Canvas} canvas
 * @param {ProcessView} process
 * @param {readonly ProcessView[]} children
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawCard(canvas, process, children, x, y, width) {
  canvas.tops.set(process.pid, y);
  const inside = width - 20;
  const narrow = width < 190;
  const file = process.program.split("/").at(-1) ?? process.program;
  const where = process.state === "zombie"
    ? "exit status left"
    : process.line === undefined
    ? file
    : `${file}:${process.line.line}`;
  const call = process.call === undefined || process.state === "zombie" ? "" : `in ${process.call}`;
  const oneLine = widthOf(where + call, 11) + 12 <= inside;
  /** @type {Shape[]} */
  const shapes = [
    glyph(process.state, x + 15, y + 15),
    text(x + 28, y + 19, `${narrow ? "" : "pid "}${process.pid}`, { class: "strong" }),
    text(x + width - 10, y + 19, process.state, {
      class: `strong word ${process.state}`,
      end: true,
    }),
    text(x + 10, y + 37, where, { key: "where", size: 11, class: "muted", width: inside }),
    text(oneLine ? x + width - 10 : x + 10, oneLine ? y + 37 : y + 53, call, {
      key: "call",
      size: 11,
      class: "muted",
      end: oneLine,
      width: inside,
    }),
  ];
  // The lines that a process once needed stay, so that nothing below jumps.
  let top = y + 28 + canvas.places.most(`head ${process.pid}`, oneLine ? 16 : 32);
  const signals = drawSignals(process, children, x + 10, top, inside);
  shapes.push(...signals.shapes);
  top += canvas.places.most(`signals ${process.pid}`, signals.height);
  const table = process.state === "zombie"
    ? { shapes: [], height: 0 }
    : drawDescriptors(canvas, process, x + 10, top, inside);
  shapes.push(...table.shapes);
  const height = top - y + canvas.places.most(`table ${process.pid}`, table.height) + 8;
  return {
    shapes: [
      shape("g", {
        key: `process ${process.pid}`,
        class: `card ${process.state}${selected(canvas, process)}`,
        "data-pid": process.pid,
        "data-state": process.state,
      }, [box(x, y, width, height), ...shapes]),
    ],
    height,
  };
}

/**
 * @param {Canvas} canvas
 * @param {ProcessView} process
 * @returns {string}
 */
function selected(canvas, process) {
  return canvas.selected === String(process.pid) ? " selected" : "";
}

/**
 * @param {ProcessView} process
 * @param {readonly ProcessView[]} children
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawSignals(process, children, x, y, width) {
  const ended = children.filter((child) => child.state === "zombie").length;
  /** @type {[string, string][]} */
  const labels = process.signals.pending.map((
    name,
  ) => ["pending", `${name} pending${name === "SIGCHLD" && ended > 1 ? `: 1 for ${ended}` : ""}`]);
  const caught = process.state === "zombie" ? [] : process.signals.caught;
  for (const name of caught.filter((name) => !OWN_SIGNALS.test(name))) {
    labels.push(["caught", `handles ${name}`]);
  }
  /** @type {Shape[]} */
  const shapes = [];
  let left = x;
  let top = y;
  for (const [kind, words] of labels) {
    const wide = Math.min(width, widthOf(words, 11) + 12);
    if (left > x && left + wide > x + width) {
      left = x;
      top += 20;
    }
    shapes.push(
      shape("g", { key: `signal ${words}`, class: `signal ${kind}` }, [
        box(left, top + 1, wide, 16, 8),
        text(left + 6, top + 13, words, { size: 11, width: wide - 10 }),
      ]),
    );
    left += wide + 6;
  }
  return { shapes, height: labels.length === 0 ? 0 : top - y + 22 };
}

/**
 * @param {Canvas} canvas
 * @param {ProcessView} process
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawDescriptors(canvas, process, x, y, width) {
  const own = process.descriptors.filter((descriptor) => descriptor.kind !== "runtime");
  const others = process.descriptors.length - own.length;
  const given = canvas.places.assign(
    `descriptors ${process.pid}`,
    own.map((descriptor) => String(descriptor.fd)),
  );
  const most = canvas.places.most(
    `descriptors ${process.pid}`,
    Math.max(0, ...[...given.values()].map((n) => n + 1)),
  );
  const lines = most <= LINES;
  const [wide, high] = most <= CELLS ? [30, 17] : [10, 10];
  const columns = lines ? 1 : Math.max(1, Math.floor((width + 3) / (wide + 3)));
  const pitch = high + (lines ? 2 : 3);
  const shapes = own.map((descriptor) => {
    const place = given.get(String(descriptor.fd)) ?? 0;
    const left = x + (place % columns) * (wide + 3);
    const top = y + 2 + Math.floor(place / columns) * pitch;
    canvas.descriptors.set(`${process.pid}:${descriptor.fd}`, {
      x: x - 10,
      y: top + high / 2,
      ...(lines ? {} : { thin: true }),
    });
    return shape("g", {
      key: `descriptor ${descriptor.fd}`,
      class: `cell ${descriptor.kind}`,
      "data-fd": descriptor.fd,
    }, [
      ...(lines ? [] : [
        shape("title", { key: "title" }, `${descriptor.fd}: ${descriptor.target}`),
      ]),
      box(left, top, wide, high, 3),
      ...(most <= CELLS
        ? [
          text(
            left + (wide - widthOf(String(descriptor.fd), 11)) / 2,
            top + 12.5,
            String(descriptor.fd),
            {
              size: 11,
            },
          ),
        ]
        : []),
      ...(lines
        ? [text(left + wide + 8, top + 12.5, describe(canvas, descriptor, width < 190), {
          size: 11,
          width: width - wide - 8,
        })]
        : []),
    ]);
  });
  let height = 2 + Math.ceil(most / columns) * pitch;
  if (others > 0) {
    shapes.push(text(x, y + height + 12, `and ${others} of Deno's own`, {
      key: "own",
      size: 11,
      class: "muted",
      width,
    }));
    height += 17;
  }
  return { shapes, height };
}

/**
 * @param {Canvas} canvas
 * @param {DescriptorView} descriptor
 * @param {boolean} short
 * @returns {string}
 */
function describe(canvas, descriptor, short) {
  const name = STANDARD[descriptor.fd];
  const socket = descriptor.inode === undefined ? undefined : canvas.byInode.get(descriptor.inode);
  const target = socket === undefined
    ? descriptor.kind === "pipe" ? "pipe" : descriptor.target
    : socket.state === "LISTEN"
    ? `listens ${portOf(socket.local)}`
    : socket.kind === "tcp"
    ? `${short ? "" : "connection "}${portOf(socket.remote)}`
    : socket.kind;
  return name === undefined ? target : short ? name : `${name}, ${target}`;
}
