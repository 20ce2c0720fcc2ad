/// <reference lib="dom" />
// @ts-check

/**
 * Returns the page's element with this id.
 *
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`The page has no #${id} of this kind`);
  return element;
}

/**
 * Returns a new element.
 *
 * @param {string} tag
 * @param {Readonly<Record<string, string>>} [attributes]
 * @param {readonly (Node | string)[]} [content]
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, content = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...content);
  return element;
}

/**
 * Replaces a list's options, unless they are those that it has. What was chosen stays chosen.
 *
 * @param {HTMLSelectElement} select
 * @param {readonly { value: string, label: string }[]} options
 */
export function setOptions(select, options) {
  const known = [...select.options];
  const same = known.length === options.length &&
    options.every(({ value, label }, index) =>
      known[index]?.value === value && known[index]?.text === label
    );
  if (same) return;
  const chosen = select.value;
  select.replaceChildren(
    ...options.map(({ value, label }) => make("option", { value }, [label])),
  );
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

/**
 * Returns a table.
 *
 * @param {string} caption
 * @param {readonly string[]} columns
 * @param {readonly (readonly string[])[]} rows
 * @returns {HTMLElement}
 */
export function table(caption, columns, rows) {
  return make("table", {}, [
    make("caption", {}, [caption]),
    make("thead", {}, [
      make("tr", {}, columns.map((name) => make("th", { scope: "col" }, [name]))),
    ]),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell) => make("td", {}, [cell]))))),
  ]);
}
