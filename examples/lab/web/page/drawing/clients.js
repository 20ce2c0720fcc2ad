// @ts-check
import { box, CARDS, portOf, tiles } from "./canvas.js";
import { counts } from "./counts.js";
import { CLIENT_STATES, glyph } from "./glyphs.js";
import { shape, text } from "./shapes.js";

/** @import { Block, Canvas } from "./canvas.js" */
/** @import { Shape } from "./shapes.js" */
/** @import { ClientView } from "../../../lesson.ts" */

const CARD = 42;

/**
 * Draws the clients: cards, or tiles when they are many.
 *
 * @param {Canvas} canvas
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {boolean} flat Whether there is no room for cards.
 * @returns {Block}
 */
export function drawClients(canvas, x, y, width, flat) {
  const { clients } = canvas.snapshot;
  const most = canvas.places.most("clients", clients.length);
  if (!flat && most <= CARDS) {
    const shapes = clients.map((client, index) => {
      const top = y + index * (CARD + 8);
      canvas.clients.set(client.number, { x: x + width, y: top + CARD / 2 });
      return card(client, x, top, width);
    });
    return { shapes, height: most * (CARD + 8) };
  }
  const head = counts(CLIENT_STATES, clients, x, y, width);
  const grid = tiles(most, width);
  const shapes = clients.map((client, index) => {
    const offset = grid.at(index);
    const left = x + offset.x;
    const top = y + head.height + offset.y;
    canvas.clients.set(
      client.number,
      flat
        ? { x: left + grid.side / 2, y: top + grid.side, thin: true }
        : { x: left + grid.side, y: top + grid.side / 2, thin: true },
    );
    return tile(client, left, top, grid.side);
  });
  return { shapes: [...head.shapes, ...shapes], height: head.height + grid.height };
}

/**
 * @param {ClientView} client
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Shape}
 */
function card(client, x, y, width) {
  const bytes = `${client.received} B`;
  const received = width < 150 ? bytes : `${bytes}  ${client.seconds.toFixed(1)} s`;
  const from = client.local === "" ? "" : portOf(client.local);
  return shape("g", {
    key: `client ${client.number}`,
    class: `card ${client.state}`,
    "data-client": client.number,
    "data-state": client.state,
  }, [
    box(x, y, width, CARD),
    glyph(client.state, x + 14, y + 14),
    text(x + 26, y + 18, client.state, { class: `strong word ${client.state}` }),
    text(x + width - 8, y + 18, `#${client.number}`, { class: "muted", size: 11, end: true }),
    text(x + 8, y + 34, from, { class: "muted", size: 11 }),
    text(x + width - 8, y + 34, received, {
      class: "muted",
      size: 11,
      end: true,
      width: width - 16 - from.length * 7,
    }),
  ]);
}

/**
 * @param {ClientView} client
 * @param {number} x
 * @param {number} y
 * @param {number} side
 * @returns {Shape}
 */
function tile(client, x, y, side) {
  return shape("g", {
    key: `client ${client.number}`,
    class: `tile ${client.state}`,
    "data-client": client.number,
    "data-state": client.state,
  }, [
    shape("title", { key: "title" }, `Client ${client.number}: ${client.state}`),
    box(x, y, side, side, 4),
    glyph(client.state, x + side / 2, y + side / 2),
  ]);
}
