/// <reference lib="dom" />
// @ts-check
import { byId, make, setOptions } from "./dom.js";
import { get } from "./session.js";

/** @import { Snapshot } from "../../lesson.ts" */

/** Unchanged lines that a diff shows around what changed. */
const CONTEXT = 3;

/** A program's source, with the lines where processes stand, or its difference to another. */
export class SourceView {
  #select = byId("file", HTMLSelectElement);
  #button = byId("diff", HTMLButtonElement);
  #place = byId("source", HTMLElement);
  #trouble;
  #shown = "";
  #different = false;
  /** @type {Map<number, HTMLElement>} */
  #lines = new Map();
  /** The lines that are marked, and how. @type {Map<number, string>} */
  #marked = new Map();

  /** @param {(error: unknown) => void} trouble Called if a file cannot be read. */
  constructor(trouble) {
    this.#trouble = trouble;
    this.#select.onchange = () => this.#load();
    this.#button.onclick = () => {
      this.#different = !this.#different;
      this.#load();
    };
  }

  /** @param {readonly string[]} files Those to choose from: paths from the root. */
  offer(files) {
    setOptions(this.#select, files.map((value) => ({ value, label: value })));
    this.#load();
  }

  /** @param {string} file One of those that are offered. */
  choose(file) {
    this.#select.value = file;
    this.#load();
  }

  /** @param {Snapshot} snapshot */
  mark(snapshot) {
    /** @type {Map<number, number[]>} */
    const standing = new Map();
    for (const { pid, line } of snapshot.processes) {
      if (line?.file !== this.#shown) continue;
      standing.set(line.line, [...(standing.get(line.line) ?? []), pid]);
    }
    for (const line of this.#marked.keys()) {
      if (standing.has(line)) continue;
      this.#lines.get(line)?.querySelector(".here")?.remove();
      this.#marked.delete(line);
    }
    for (const [line, pids] of standing) {
      const words = pids.length > 2 ? `${pids.length} processes` : pids.join(", ");
      if (this.#marked.get(line) === words) continue;
      this.#marked.set(line, words);
      const element = this.#lines.get(line);
      const mark = element?.querySelector(".here");
      if (mark) mark.textContent = words;
      else element?.lastElementChild?.append(make("span", { class: "here" }, [words]));
    }
  }

  async #load() {
    const file = this.#select.value;
    if (file === "") return;
    try {
      const source = await get(`source?file=${encodeURIComponent(file)}`);
      this.#button.disabled = source.differsFrom === undefined;
      const different = this.#different && source.differsFrom !== undefined;
      this.#button.setAttribute("aria-pressed", String(different));
      const difference = different
        ? await get(
          `diff?from=${encodeURIComponent(source.differsFrom)}&to=${encodeURIComponent(file)}`,
        )
        : undefined;
      if (this.#select.value !== file) return; // chosen anew meanwhile
      if (difference === undefined) this.#showSource(source);
      else this.#showDifference(difference);
    } catch (error) {
      this.#trouble(error);
    }
  }

  /** @param {{ file: string, text: string, decisive: readonly number[] }} source */
  #showSource({ file, text, decisive }) {
    this.#shown = file;
    this.#lines.clear();
    this.#marked.clear();
    const lines = text.replace(/\n$/, "").split("\n").map((content, index) => {
      const important = decisive.includes(index + 1);
      const line = drawLine(
        String(index + 1),
        important ? "\u25c6" : "",
        content,
        important ? "decisive" : "",
      );
      if (important) line.setAttribute("title", "The decisive line");
      this.#lines.set(index + 1, line);
      return line;
    });
    this.#place.replaceChildren(make("div", { class: "lines" }, lines));
    const middle = this.#lines.get(decisive[0] ?? 1);
    this.#place.scrollTop = middle === undefined ? 0 : middle.offsetTop - 120;
  }

  /**
   * @param {{ from: string, lines: readonly { kind: string, from?: number, to?: number, text: string }[] }}
   * difference
   */
  #showDifference({ from, lines }) {
    this.#shown = "";
    this.#lines.clear();
    this.#marked.clear();
    const near = lines.map((_, index) =>
      lines.slice(Math.max(0, index - CONTEXT), index + CONTEXT + 1).some(({ kind }) =>
        kind !== " "
      )
    );
    /** @type {HTMLElement[]} */
    const shown = [drawLine("", "", `Compared with ${from}`, "fold")];
    lines.forEach(({ kind, from: old, to, text }, index) => {
      if (near[index]) {
        shown.push(
          drawLine(
            String(to ?? old ?? ""),
            kind,
            text,
            kind === "+" ? "added" : kind === "-" ? "removed" : "",
          ),
        );
      } else if (near[index - 1] !== false) {
        shown.push(drawLine("", "", "\u2026", "fold"));
      }
    });
    this.#place.replaceChildren(make("div", { class: "lines" }, shown));
    this.#place.scrollTop = 0;
  }
}

/**
 * @param {string} number
 * @param {string} sign
 * @param {string} text
 * @param {string} kind
 * @returns {HTMLElement}
 */
function drawLine(number, sign, text, kind) {
  return make("div", { class: `line ${kind}` }, [
    make("span", {}, [number]),
    make("span", {}, [sign]),
    make("span", {}, [text]),
  ]);
}
