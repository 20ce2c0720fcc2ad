/// <reference lib="dom" />
// @ts-check
import { byId, make } from "./dom.js";

/** Entries that are kept. */
const ENTRIES = 400;

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
    const entry = draw(message, show);
    if (entry === undefined) return;
    this.#place.append(entry);
    while (this.#place.childElementCount > ENTRIES) this.#place.firstElementChild?.remove();
    this.#place.scrollTop = this.#place.scrollHeight;
  }
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
      return make("li", { class: "output" }, [message.text.replace(/\n$/, "")]);
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
