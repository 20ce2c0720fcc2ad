// @ts-check
import { glyph } from "./glyphs.js";
import { shape, text } from "./shapes.js";

/** @import { Block } from "./canvas.js" */

/**
 * Draws how many are in each state: the key to the signs, and the numbers in words.
 *
 * @template {Parameters<typeof glyph>[0]} State
 * @param {readonly State[]} states
 * @param {readonly { readonly state: State }[]} things
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @returns {Block}
 */
export function counts(states, things, x, y, width) {
  const columns = Math.max(1, Math.floor(width / 100));
  const shapes = states.map((state, index) => {
    const left = x + (index % columns) * Math.floor(width / columns);
    const middle = y + Math.floor(index / columns) * 18 + 9;
    const count = things.filter((thing) => thing.state === state).length;
    return shape("g", { key: `count ${state}` }, [
      glyph(state, left + 7, middle),
      text(left + 18, middle + 4, `${state} ${count}`, {
        size: 11,
        class: count === 0 ? "muted" : `word ${state}`,
      }),
    ]);
  });
  return { shapes, height: Math.ceil(states.length / columns) * 18 + 6 };
}
