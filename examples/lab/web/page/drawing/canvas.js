// @ts-check
// What the parts of a drawing share: where things stand, and what refers to them.
import { shape, text, widthOf } from "./shapes.js";

/** @import { Shape } from "./shapes.js" */
/** @import { Places } from "./places.js" */
/** @import { Snapshot, SocketView } from "../../../lesson.ts" */

/** @typedef {{ x: number, y: number, thin?: boolean }} Point */
/** @typedef {{ left: Point, right: Point, queue?: Point }} Ends */
/** @typedef {{ shapes: Shape[], height: number }} Block */

/**
 * What a drawing is made of, while it is made.
 *
 * @typedef {object} Canvas
 * @property {Snapshot} snapshot
 * @property {Places} places
 * @property {string | undefined} selected The chosen process's pid, as text.
 * @property {ReadonlyMap<number, SocketView>} byInode
 * @property {Map<number, number>} tops Where the card of each process begins, by its pid.
 * @property {Map<string, Point>} descriptors Where arrows begin: by `pid:fd`.
 * @property {Map<string, Ends>} sockets Where arrows and links end: by the socket's key.
 * @property {Map<number, Point>} clients Where links begin: by the client's number.
 */

/** How many of a kind are drawn as cards; more are drawn as tiles. */
export const CARDS = 6;
/** Tiles of the larger size. */
const DENSE = 72;

/**
 * Returns what a socket is known by: its inode, or its addresses if no process holds it.
 *
 * @param {SocketView} socket
 * @returns {string}
 */
export function socketKey(socket) {
  return socket.inode !== 0
    ? `${socket.kind}:${socket.inode}`
    : `${socket.kind}:${socket.local}>${socket.remote}`;
}

/**
 * Returns an address's port, with its colon, or the whole of what has none.
 *
 * @param {string} address
 * @returns {string}
 */
export function portOf(address) {
  return /:\d+$/.exec(address)?.[0] ?? address;
}

/**
 * Returns a rectangle with round corners.
 *
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 * @param {number} [radius]
 * @param {string} [className]
 * @returns {Shape}
 */
export function box(x, y, width, height, radius = 5, className) {
  return shape("rect", { key: "box", x, y, width, height, rx: radius, class: className });
}

/**
 * Returns a small label whose end is at `x`.
 *
 * @param {number} x
 * @param {number} y Its top.
 * @param {string} words
 * @param {string} kind
 * @returns {Shape}
 */
export function badge(x, y, words, kind) {
  const width = widthOf(words, 11) + 10;
  return shape("g", { key: "badge", class: `badge ${kind}` }, [
    box(x - width, y, width, 17, 8),
    text(x - 5, y + 12.5, words, { size: 11, end: true }),
  ]);
}

/**
 * Lays out tiles in rows: smaller ones when they are many.
 *
 * @param {number} count
 * @param {number} width What there is room for.
 * @returns {{ side: number, height: number, at: (place: number) => { x: number, y: number } }}
 */
export function tiles(count, width) {
  const side = count > DENSE ? 15 : 22;
  const pitch = side + (count > DENSE ? 3 : 4);
  const columns = Math.max(1, Math.floor((width + pitch - side) / pitch));
  return {
    side,
    height: Math.ceil(count / columns) * pitch,
    at: (place) => ({ x: (place % columns) * pitch, y: Math.floor(place / columns) * pitch }),
  };
}
