/// <reference lib="dom" />
// @ts-check
import { byId, make } from "./dom.js";

/** Entries that are kept. */
const ENTRIES = 400;
/** Lines of output that are kept of a process that says much. */
const LINES = 8;

/** What was done, and the evidence: one line each. */
export class Log {
  #place = byId("log", HTMLOListElement);

  /** Forgets all. */
  clear() {
    this.#place.replaceChildren();
  }

  /**
   * Adds a message, if it is one for the log.
   *
   * @param {{ type: string } & Record<string, any>} message
   * @param {() => void} show Shows the moment of a picture.
   */
  add(message, show) {
    if (message.type === "output" && this.#continue(message)) return;
    const entry = draw(message, show);
    if (entry === undefined) return;
    this.#place.append(entry);
    while (this.#place.childElementCount > ENTRIES) this.#place.firstElementChild?.remove();
    const frame = this.#place.parentElement;
    if (frame !== null) frame.scrollTop = frame.scrollHeight;
  }

  /**
   * Adds output to an entry that is output of the same process.
   *
   * @param {Record<string, any>} message
   * @returns {boolean} Whether there is such an entry.
   */
  #continue({ pid, text }) {
    const last = /** @type {HTMLElement | null} */ (this.#place.lastElementChild);
    if (last?.dataset.pid !== String(pid)) return false;
    last.textContent = shorten(`${last.textContent}\n${text}`);
    return true;
  }
}

/**
 * @param {string} output
 * @returns {string} Its last lines.
 */
function shorten(output) {
  const lines = output.replaceAll("\r", "").split("\n").filter((line) => line !== "");
  return (lines.length > LINES ? "\u2026\n" : "") + lines.slice(-LINES).join("\n");
}

/**
 * @param {{ type: string } & Record<string, any>} message
 * @param {() => void} show
 * @returns {HTMLElement | undefined}
 */
function draw(message, show) {
  switch (message.type) {
    case "command":
    case "say":
      return make("li", { class: message.type }, [message.text]);
    case "output":
      return make("li", { class: "output", "data-pid": String(message.pid) }, [
        shorten(message.text),
      ]);
    case "figure": {
      const kind = message.holds === undefined ? "note" : message.holds ? "holds" : "differs";
      const expected = message.holds === false ? ` (expected: ${message.expected})` : "";
      return make("li", { class: kind }, [`${message.figure}: ${message.value}${expected}`]);
    }
    case "picture": {
      const button = make("button", { type: "button" }, [`Show: ${message.caption}`]);
      button.onclick = show;
      return make("li", {}, [button]);
    }
    case "exit": {
      const how = message.signal === null ? `exit code ${message.code}` : message.signal;
      return make("li", { class: "note" }, [`process ${message.pid} has ended: ${how}`]);
    }
  }
}
