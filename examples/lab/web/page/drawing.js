// @ts-check
/**
 * Draws what the kernel says as SVG: clients, the accept queue, sockets with their reference
 * counts, and the processes as a tree, each with its descriptors. It needs no DOM: the same module
 * draws the live view of the page and the pictures of the documentation.
 *
 * @example
 * ```js
 * import { drawSnapshot } from "./drawing.js";
 * const svg = drawSnapshot({ at: 0, processes: [], sockets: [], clients: [] }, { title: "Empty" });
 * ```
 */
import { socketKey } from "./drawing/canvas.js";
import { drawClients } from "./drawing/clients.js";
import { Places } from "./drawing/places.js";
import { drawProcesses } from "./drawing/processes.js";
import { serialize, shape } from "./drawing/shapes.js";
import { drawSockets } from "./drawing/sockets.js";
import { COLOURS, STYLE } from "./drawing/style.js";

/** @import { Canvas } from "./drawing/canvas.js" */
/** @import { Shape } from "./drawing/shapes.js" */
/** @import { Snapshot } from "../../lesson.ts" */

/**
 * How to draw.
 *
 * @typedef {object} DrawingOptions
 * @property {number} [width] In pixels; from 320 on. The default is 840. Below 620, clients stand
 * above the rest.
 * @property {string} [title] What it shows. The default is a count.
 * @property {string} [selected] The pid of the process that is marked.
 * @property {Places} [places] Of the drawing before: what stays then stays in its place.
 * @property {number} [minimumHeight] In pixels.
 */

/**
 * Draws a snapshot as an SVG file, with its colours for light and dark.
 *
 * @param {Snapshot} snapshot
 * @param {DrawingOptions} [options]
 * @returns {string}
 */
export function drawSnapshot(snapshot, options = {}) {
  const drawing = drawShapes(snapshot, options);
  return serialize({
    ...drawing,
    attributes: { xmlns: "http://www.w3.org/2000/svg", ...drawing.attributes },
    children: [shape("style", {}, COLOURS + STYLE), ...drawing.children],
  }) + "\n";
}

/**
 * Draws a snapshot as a tree of elements, without a style.
 *
 * @param {Snapshot} snapshot
 * @param {DrawingOptions} [options]
 * @returns {Shape} The `svg` element.
 */
export function drawShapes(snapshot, options = {}) {
  const width = Math.max(320, Math.round(options.width ?? 840));
  const places = options.places ?? new Places();
  /** @type {Canvas} */
  const canvas = {
    snapshot,
    places,
    selected: options.selected,
    byInode: new Map(
      snapshot.sockets.filter((socket) => socket.inode !== 0).map((
        socket,
      ) => [socket.inode, socket]),
    ),
    tops: new Map(),
    descriptors: new Map(),
    sockets: new Map(),
    clients: new Map(),
  };
  const narrow = width < 620;
  const edge = narrow ? 8 : 16;
  const inner = width - 2 * edge;
  const clientsWidth = narrow ? inner : inner * 0.19;
  const kernelX = narrow ? edge + 12 : edge + inner * 0.26;
  const kernelWidth = narrow ? inner * 0.37 : inner * 0.27;
  const processesX = edge + inner * (narrow ? 0.5 : 0.61);
  const processesWidth = inner * (narrow ? 0.5 : 0.39);

  const clients = drawClients(canvas, edge, 36, clientsWidth, narrow);
  const clientsHeight = narrow ? places.most("clients height", clients.height) + 34 : 0;
  const top = 36 + clientsHeight;
  const sockets = drawSockets(canvas, kernelX, top, kernelWidth);
  const processes = drawProcesses(canvas, processesX, top, processesWidth);
  const height = places.most(
    "height",
    Math.max(
      options.minimumHeight ?? 0,
      Math.ceil(
        Math.max(narrow ? 0 : 36 + clients.height, top + sockets.height, top + processes.height),
      ) +
        12,
    ),
  );
  const arrows = drawArrows(canvas);
  // Thin ones are many: what they cross stays readable before them.
  const isThin = (/** @type {Shape} */ arrow) => arrow.attributes.class?.includes("thin") === true;
  /** @type {(x: number, y: number, words: string) => Shape} */
  const heading = (x, y, words) =>
    shape("text", { key: `heading ${words}`, x, y, class: "heading", "font-size": 13 }, words);
  return shape("svg", {
    class: "tine drawing",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-label": options.title ?? summary(snapshot),
  }, [
    shape("title", { key: "title" }, options.title ?? summary(snapshot)),
    shape("desc", { key: "desc" }, describeSnapshot(snapshot)),
    heading(edge, 22, "Clients"),
    heading(kernelX, top - 14, "Kernel"),
    heading(processesX, top - 14, "Processes"),
    shape("g", { key: "links" }, drawLinks(canvas, narrow)),
    shape("g", { key: "thin arrows" }, arrows.filter((arrow) => isThin(arrow))),
    shape("g", { key: "clients" }, clients.shapes),
    shape("g", { key: "sockets" }, sockets.shapes),
    shape("g", { key: "processes" }, processes.shapes),
    shape("g", { key: "arrows" }, arrows.filter((arrow) => !isThin(arrow))),
  ]);
}

/**
 * Draws an arrow from each descriptor to its socket or pipe.
 *
 * @param {Canvas} canvas
 * @returns {Shape[]}
 */
function drawArrows(canvas) {
  /** @type {Shape[]} */
  const arrows = [];
  for (const socket of canvas.snapshot.sockets) {
    const key = socketKey(socket);
    const end = canvas.sockets.get(key)?.right;
    if (end === undefined) continue;
    const kind = socket.kind === "tcp" ? " tcp" : "";
    let some = false;
    for (const { pid, fd } of socket.holders) {
      const start = canvas.descriptors.get(`${pid}:${fd}`);
      if (start === undefined) continue;
      some = true;
      const bend = (start.x - end.x) / 2;
      arrows.push(shape("path", {
        key: `${pid}:${fd} ${key}`,
        class: `arrow${kind}${start.thin || end.thin ? " thin" : ""}`,
        d: `M${at(start.x)} ${at(start.y)}C${at(start.x - bend)} ${at(start.y)} ${
          at(end.x + bend)
        } ${at(end.y)} ${at(end.x + 5)} ${at(end.y)}`,
        "data-arrow": `${pid}:${fd}`,
        "data-to": key,
      }));
    }
    if (some && end.thin !== true) {
      arrows.push(shape("path", {
        key: `head ${key}`,
        class: `head${kind}`,
        d: `M${at(end.x)} ${at(end.y)}l7 -4v8z`,
      }));
    }
  }
  return arrows;
}

/**
 * Draws a line from each client to its connection, or to the queue where it waits for `accept`.
 *
 * @param {Canvas} canvas
 * @param {boolean} narrow
 * @returns {Shape[]}
 */
function drawLinks(canvas, narrow) {
  /** @type {Map<string, Canvas["snapshot"]["sockets"][number]>} */
  const byAddresses = new Map();
  /** @type {Map<string, Canvas["snapshot"]["sockets"][number]>} */
  const listeners = new Map();
  for (const socket of canvas.snapshot.sockets) {
    if (socket.state === "LISTEN") listeners.set(socket.local.replace(/^.*:/, ""), socket);
    else byAddresses.set(`${socket.remote} ${socket.local}`, socket);
  }
  /** @type {Shape[]} */
  const links = [];
  for (const client of canvas.snapshot.clients) {
    const start = canvas.clients.get(client.number);
    const socket = byAddresses.get(`${client.local} ${client.remote}`);
    let end = socket === undefined ? undefined : canvas.sockets.get(socketKey(socket))?.left;
    if (end === undefined && (client.state === "waiting" || client.state === "connecting")) {
      const listener = listeners.get(client.remote.replace(/^.*:/, ""));
      end = listener === undefined ? undefined : canvas.sockets.get(socketKey(listener))?.queue;
    }
    if (start === undefined || end === undefined) continue;
    const bend = Math.max(24, (end.x - start.x) / 2);
    links.push(shape("path", {
      key: String(client.number),
      class: `link ${client.state}${start.thin || end.thin ? " thin" : ""}`,
      d: narrow
        ? `M${at(start.x)} ${at(start.y)}C${at(start.x)} ${at(start.y + 24)} ${at(end.x - 20)} ${
          at(end.y)
        } ${at(end.x)} ${at(end.y)}`
        : `M${at(start.x)} ${at(start.y)}C${at(start.x + bend)} ${at(start.y)} ${
          at(end.x - bend)
        } ${at(end.y)} ${at(end.x)} ${at(end.y)}`,
    }));
  }
  return links;
}

/**
 * @param {number} value
 * @returns {string}
 */
function at(value) {
  return String(Math.round(value * 10) / 10);
}

/**
 * Says in one line what a snapshot shows.
 *
 * @param {Snapshot} snapshot
 * @returns {string}
 */
export function summary(snapshot) {
  const zombies = snapshot.processes.filter((process) => process.state === "zombie").length;
  return `${count(snapshot.processes.length, "process", "processes")}${
    zombies === 0 ? "" : `, ${count(zombies, "zombie")}`
  }, ${
    count(
      snapshot.sockets.filter((socket) => socket.holders.length > 0).length,
      "socket or pipe",
      "sockets and pipes",
    )
  }, ${count(snapshot.clients.length, "client")}`;
}

/**
 * Says in sentences what a snapshot shows, for those who do not see it.
 *
 * @param {Snapshot} snapshot
 * @returns {string}
 */
export function describeSnapshot(snapshot) {
  /** @type {string[]} */
  const sentences = [`${summary(snapshot)}.`];
  for (const process of snapshot.processes.slice(0, 12)) {
    const call = process.call === undefined ? "" : ` in ${process.call}`;
    const own = process.descriptors.filter((descriptor) => descriptor.kind !== "runtime").length;
    sentences.push(
      `Process ${process.pid}, child of ${process.ppid}, is ${process.state}${call} and holds ${
        count(own, "descriptor")
      }.`,
    );
    for (const name of process.signals.pending) {
      sentences.push(`${name} is pending for process ${process.pid}.`);
    }
  }
  for (const socket of snapshot.sockets) {
    if (socket.state !== "LISTEN") continue;
    sentences.push(
      `${count(socket.queue, "connection")} of ${
        socket.limit ?? "unknown"
      } wait for accept on ${socket.local}, which has ${
        count(socket.holders.length, "reference")
      }.`,
    );
  }
  for (const client of snapshot.clients.slice(0, 12)) {
    sentences.push(`Client ${client.number} is ${client.state}.`);
  }
  return sentences.join(" ");
}

/**
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 * @returns {string}
 */
function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}
