// @ts-check
// A sign for each state: another form, not another colour alone.
import { shape } from "./shapes.js";

/** @import { Shape } from "./shapes.js" */

/** What is drawn for a state, in a square of 12 around the origin. */
const PATHS = /** @type {const} */ ({
  // processes
  running: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
  sleeping: "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
  disk: "M0 -5.5L5.5 0L0 5.5L-5.5 0z",
  stopped: "M-2.5 -4.5V4.5M2.5 -4.5V4.5",
  zombie: "M-4.5 -4.5L4.5 4.5M4.5 -4.5L-4.5 4.5",
  // clients
  connecting: "M-5 0H-3M-1 0H1M3 0H5",
  waiting: "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0zM0 -2.5V0H2.5",
  answered: "M-4.5 0.5L-1.5 4L4.5 -4",
  hung: "M0 -5V1.5M0 4.4V4.8",
  closed: "M-4.5 0H4.5",
  refused: "M-4.5 -4.5L4.5 4.5M4.5 -4.5L-4.5 4.5",
  "gave-up": "M-4 -5H4L-4 5H4Z",
  reset: "M1.5 -5.5L-3 0.5H3L-1.5 5.5",
});

/** What the states are called in words. */
export const PROCESS_STATES = /** @type {const} */ ([
  "running",
  "sleeping",
  "zombie",
  "stopped",
  "disk",
]);

/** The states of a client, in the order in which they come. */
export const CLIENT_STATES = /** @type {const} */ ([
  "connecting",
  "waiting",
  "answered",
  "hung",
  "closed",
  "refused",
  "reset",
  "gave-up",
]);

/**
 * Returns the sign for a state.
 *
 * @param {keyof typeof PATHS} state
 * @param {number} x Its middle.
 * @param {number} y
 * @returns {Shape}
 */
export function glyph(state, x, y) {
  return shape("path", {
    key: "glyph",
    class: `glyph ${state}`,
    d: PATHS[state],
    transform: `translate(${x} ${y})`,
  });
}
