// @ts-check
import { badge, box, CARDS, portOf, socketKey, tiles } from "./canvas.js";
import { shape, text, widthOf } from "./shapes.js";

/** @import { Block, Canvas } from "./canvas.js" */
/** @import { Shape } from "./shapes.js" */
/** @import { SocketView } from "../../../lesson.ts" */

const CARD = 42;
/** Slots of an accept queue that are drawn one by one. */
const SLOTS = 64;
const SLOT = 11;

/**
 * Draws what the kernel holds: listening sockets with their queues, connections, pipes.
 *
 * @param {Canvas} canvas
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
export function drawSockets(canvas, x, y, width) {
  const { snapshot, places } = canvas;
  const listeners = snapshot.sockets.filter((socket) => socket.state === "LISTEN");
  const ports = new Set(listeners.map((socket) => portOf(socket.local)));
  const ends = new Set(snapshot.clients.map((client) => client.local));
  const others = snapshot.sockets.filter((socket) => socket.state !== "LISTEN");
  // A connection that waits for accept is a slot of the queue, and a client's own end is the client.
  const connections = others.filter((socket) =>
    socket.kind !== "pipe" && socket.state !== "TIME_WAIT" &&
    !ends.has(socket.local) &&
    (socket.holders.length > 0 ||
      !(ports.has(portOf(socket.local)) && socket.state === "ESTABLISHED"))
  );
  connections.sort((a, b) => (a.holders[0]?.fd ?? 0) - (b.holders[0]?.fd ?? 0));
  const pipes = others.filter((socket) => socket.kind === "pipe" && socket.holders.length > 0);

  /** @type {Shape[]} */
  const shapes = [];
  let top = y;
  const listening = places.assign("listeners", listeners.map(socketKey));
  const byPlace = [...listeners].sort((a, b) =>
    (listening.get(socketKey(a)) ?? 0) - (listening.get(socketKey(b)) ?? 0)
  );
  for (const listener of byPlace) {
    const block = drawListener(canvas, listener, x, top, width);
    shapes.push(...block.shapes);
    top += block.height + 10;
  }
  top = y + places.most("listeners", top - y);
  for (
    const [name, group] of /** @type {const} */ ([["connections", connections], ["pipes", pipes]])
  ) {
    const block = drawGroup(canvas, name, group, x, top, width);
    shapes.push(...block.shapes);
    top += block.height;
  }
  const past = snapshot.sockets.filter((socket) => socket.state === "TIME_WAIT").length;
  if (past > 0) {
    shapes.push(
      text(x, top + 12, `TIME_WAIT ${past}${width < 250 ? "" : ": ended, not forgotten"}`, {
        key: "past",
        size: 11,
        class: "muted",
        width,
      }),
    );
  }
  return { shapes, height: top - y + places.most("past", past > 0 ? 22 : 0) };
}

/**
 * @param {Canvas} canvas
 * @param {SocketView} socket
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawListener(canvas, socket, x, y, width) {
  const key = socketKey(socket);
  const limit = socket.limit ?? socket.queue;
  const shown = Math.min(
    SLOTS,
    canvas.places.most(`slots ${key}`, Math.max(limit + 1, socket.queue)),
  );
  const columns = Math.floor((width - 20 + 3) / (SLOT + 3));
  /** @type {Shape[]} */
  const slots = [];
  for (let slot = 0; slot < shown; slot++) {
    const beyond = slot >= limit;
    slots.push(shape("rect", {
      key: `slot ${slot}`,
      x: x + 10 + (slot % columns) * (SLOT + 3),
      y: y + 46 + Math.floor(slot / columns) * (SLOT + 3),
      width: SLOT,
      height: SLOT,
      rx: 2,
      class: `slot${slot < socket.queue ? " full" : ""}${beyond ? " beyond" : ""}`,
    }));
  }
  const height = 50 + Math.ceil(shown / columns) * (SLOT + 3) + (shown < limit ? 14 : 0);
  canvas.sockets.set(key, {
    left: { x, y: y + 18 },
    right: { x: x + width, y: y + 18 },
    queue: { x, y: y + 51 },
  });
  const of = socket.limit === undefined ? "" : ` of ${socket.limit}`;
  return {
    shapes: [
      shape("g", {
        key,
        class: "card listening",
        "data-socket": key,
        "data-references": socket.holders.length,
      }, [
        box(x, y, width, height),
        text(x + 10, y + 19, `${width < 190 ? "" : "listens "}${portOf(socket.local)}`, {
          class: "strong",
          width: width - 80,
        }),
        references(socket, x + width - 8, y + 6),
        text(x + 10, y + 38, `${width < 190 ? "" : "accept "}queue ${socket.queue}${of}`, {
          size: 11,
          class: socket.queue > limit ? "word hung" : "muted",
          width: width - 20,
        }),
        ...slots,
        ...(shown < limit
          ? [
            text(x + 10, y + height - 8, `and ${limit + 1 - shown} more`, {
              size: 11,
              class: "muted",
            }),
          ]
          : []),
      ]),
    ],
    height,
  };
}

/**
 * @param {Canvas} canvas
 * @param {"connections" | "pipes"} name
 * @param {readonly SocketView[]} group
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
function drawGroup(canvas, name, group, x, y, width) {
  const given = canvas.places.assign(name, group.map(socketKey));
  const most = canvas.places.most(
    name,
    group.reduce(
      (last, socket) => Math.max(last, (given.get(socketKey(socket)) ?? 0) + 1),
      0,
    ),
  );
  if (most === 0) return { shapes: [], height: 0 };
  const card = name === "pipes" ? 28 : CARD;
  if (most <= CARDS) {
    const shapes = group.map((socket) =>
      drawCard(canvas, socket, x, y + (given.get(socketKey(socket)) ?? 0) * (card + 8), width, card)
    );
    return { shapes, height: most * (card + 8) };
  }
  const grid = tiles(most, width);
  const heading = text(x, y + 12, `${group.length} ${name}: refs`, {
    key: `heading ${name}`,
    size: 11,
    class: "muted",
    width,
  });
  const shapes = group.map((socket) => {
    const offset = grid.at(given.get(socketKey(socket)) ?? 0);
    return drawTile(canvas, socket, x + offset.x, y + 20 + offset.y, grid.side);
  });
  return { shapes: group.length === 0 ? [] : [heading, ...shapes], height: 20 + grid.height + 8 };
}

/**
 * @param {Canvas} canvas
 * @param {SocketView} socket
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 * @returns {Shape}
 */
function drawCard(canvas, socket, x, y, width, height) {
  const key = socketKey(socket);
  canvas.sockets.set(key, {
    left: { x, y: y + height / 2 },
    right: { x: x + width, y: y + 14 },
  });
  const waiting = socket.queue > 0 ? `, ${socket.queue} B${width < 190 ? "" : " to read"}` : "";
  const name = socket.kind === "pipe"
    ? `pipe ${socket.inode}${socket.queue > 0 ? `, ${socket.queue} B` : ""}`
    : socket.kind === "unix"
    ? `unix ${socket.local}`
    : width < 190
    ? portOf(socket.remote)
    : `connection ${portOf(socket.remote)}`;
  return shape("g", {
    key,
    class: `card ${socket.kind}`,
    "data-socket": key,
    "data-references": socket.holders.length,
  }, [
    box(x, y, width, height),
    text(x + 10, y + 18, name, {
      class: socket.kind === "pipe" ? "muted" : "strong",
      size: socket.kind === "pipe" ? 11 : 12,
      width: width - 76,
    }),
    references(socket, x + width - 8, y + 5),
    ...(height < CARD ? [] : [
      text(x + 10, y + 34, `${socket.state}${waiting}`, {
        size: 11,
        class: "muted",
        width: width - 20,
      }),
    ]),
  ]);
}

/**
 * @param {Canvas} canvas
 * @param {SocketView} socket
 * @param {number} x
 * @param {number} y
 * @param {number} side
 * @returns {Shape}
 */
function drawTile(canvas, socket, x, y, side) {
  const key = socketKey(socket);
  const count = String(socket.holders.length);
  canvas.sockets.set(key, {
    left: { x, y: y + side / 2, thin: true },
    right: { x: x + side, y: y + side / 2, thin: true },
  });
  return shape("g", {
    key,
    class: `tile ${socket.kind}`,
    "data-socket": key,
    "data-references": socket.holders.length,
  }, [
    shape("title", { key: "title" }, `${socket.kind} ${socket.remote} ${socket.state}`),
    box(x, y, side, side, 4),
    text(x + (side - widthOf(count, 11)) / 2, y + side / 2 + 4, count, { size: 11 }),
  ]);
}

/**
 * @param {SocketView} socket
 * @param {number} x
 * @param {number} y
 * @returns {Shape}
 */
function references(socket, x, y) {
  const count = socket.holders.length;
  return badge(x, y, `refs ${count}`, count === 0 ? "none" : count > 1 ? "shared" : "one");
}
