/// <reference lib="dom" />
// @ts-check
/** @import { Shape } from "./drawing/shapes.js" */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {{ shape: Shape, element: Element, children: Map<string, Drawn> }} Drawn */

/** Shows drawings in an element, one after the other, and changes only what differs. */
export class Painter {
  /** @type {Drawn | undefined} */
  #drawn;
  #place;

  /** @param {Element} place What the drawing is in. */
  constructor(place) {
    this.#place = place;
  }

  /** @param {Shape} shape An `svg` element. */
  paint(shape) {
    if (this.#drawn === undefined) {
      this.#drawn = create(shape);
      this.#place.append(this.#drawn.element);
    } else update(this.#drawn, shape);
  }
}

/**
 * @param {Shape} shape
 * @returns {Drawn}
 */
function create(shape) {
  const element = document.createElementNS(SVG, shape.tag);
  for (const [name, value] of Object.entries(shape.attributes)) element.setAttribute(name, value);
  if (shape.text !== undefined) element.textContent = shape.text;
  /** @type {Map<string, Drawn>} */
  const children = new Map();
  shape.children.forEach((child, index) => {
    const drawn = create(child);
    children.set(keyOf(child, index), drawn);
    element.append(drawn.element);
  });
  return { shape, element, children };
}

/**
 * @param {Drawn} drawn
 * @param {Shape} next
 */
function update(drawn, next) {
  const { shape, element, children } = drawn;
  for (const [name, value] of Object.entries(next.attributes)) {
    if (shape.attributes[name] !== value) element.setAttribute(name, value);
  }
  for (const name of Object.keys(shape.attributes)) {
    if (!(name in next.attributes)) element.removeAttribute(name);
  }
  if (next.text !== undefined && next.text !== shape.text) element.textContent = next.text;
  drawn.shape = next;
  if (next.children.length === 0 && children.size === 0) return;

  const keys = new Set(next.children.map(keyOf));
  for (const [key, child] of children) {
    if (keys.has(key)) continue;
    child.element.remove();
    children.delete(key);
  }
  let cursor = element.firstChild;
  next.children.forEach((child, index) => {
    const key = keyOf(child, index);
    let known = children.get(key);
    if (known !== undefined && known.shape.tag === child.tag) update(known, child);
    else {
      known?.element.remove();
      if (cursor === known?.element) cursor = cursor?.nextSibling ?? null;
      known = create(child);
      children.set(key, known);
    }
    if (known.element === cursor) cursor = cursor.nextSibling;
    else element.insertBefore(known.element, cursor);
  });
}

/**
 * @param {Shape} shape
 * @param {number} index
 * @returns {string}
 */
function keyOf(shape, index) {
  return shape.key === "" ? `#${index}` : shape.key;
}
