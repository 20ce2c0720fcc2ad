// @ts-check
// Shapes: SVG elements as plain objects. The same tree becomes a string, for a file, or is compared
// with the one before, to change only what differs in a page.

/**
 * An SVG element.
 *
 * @typedef {object} Shape
 * @property {string} tag
 * @property {string} key What it is known by among its siblings, from one drawing to the next.
 * @property {Readonly<Record<string, string>>} attributes
 * @property {readonly Shape[]} children
 * @property {string} [text]
 */

/**
 * Returns an SVG element.
 *
 * @param {string} tag
 * @param {Readonly<Record<string, string | number | undefined>>} attributes Those that are undefined
 * are left out. `key` is the element's key, and no attribute.
 * @param {readonly Shape[] | string} [content] Its children, or its text.
 * @returns {Shape}
 */
export function shape(tag, attributes, content = []) {
  /** @type {Record<string, string>} */
  const kept = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "key" || value === undefined) continue;
    kept[name] = typeof value === "number" ? String(Math.round(value * 10) / 10) : value;
  }
  const key = String(attributes.key ?? "");
  return typeof content === "string"
    ? { tag, key, attributes: kept, children: [], text: content }
    : { tag, key, attributes: kept, children: content };
}

/**
 * Returns SVG text, cut where it would not fit. Its font has characters of one width.
 *
 * @param {number} x
 * @param {number} y The base line.
 * @param {string} words
 * @param {{ class?: string, width?: number, size?: number, end?: boolean, key?: string }} [options]
 * `width`: what there is room for; `end`: the text ends at `x`.
 * @returns {Shape}
 */
export function text(x, y, words, options = {}) {
  const size = options.size ?? 12;
  return shape("text", {
    key: options.key,
    x,
    y,
    class: options.class,
    "font-size": size,
    "text-anchor": options.end ? "end" : undefined,
  }, fit(words, options.width, size));
}

/**
 * Returns the text's width in pixels.
 *
 * @param {string} words
 * @param {number} [size] The font's.
 * @returns {number}
 */
export function widthOf(words, size = 12) {
  return words.length * size * 0.605; // what DejaVu Sans Mono, Menlo and Consolas have at most
}

/**
 * @param {string} words
 * @param {number | undefined} width
 * @param {number} size
 * @returns {string}
 */
function fit(words, width, size) {
  if (width === undefined || widthOf(words, size) <= width) return words;
  const room = Math.max(1, Math.floor(width / widthOf("x", size)) - 1);
  return words.slice(0, room) + "…";
}

/**
 * Returns the element as text.
 *
 * @param {Shape} element
 * @returns {string}
 */
export function serialize(element) {
  let opening = element.tag;
  for (const [name, value] of Object.entries(element.attributes)) {
    opening += ` ${name}="${escape(value)}"`;
  }
  const content = element.text !== undefined
    ? escape(element.text)
    : element.children.map(serialize).join("");
  return content === "" ? `<${opening}/>` : `<${opening}>${content}</${element.tag}>`;
}

/** @type {Readonly<Record<string, string>>} */
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/**
 * @param {string} words
 * @returns {string}
 */
function escape(words) {
  return words.replace(/[&<>"]/g, (character) => ENTITIES[character] ?? character);
}
