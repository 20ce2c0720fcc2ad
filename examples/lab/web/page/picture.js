/// <reference lib="dom" />
// @ts-check
import { byId } from "./dom.js";
import { drawShapes } from "./drawing.js";
import { Places } from "./drawing/places.js";
import { Painter } from "./painter.js";
import { Recording } from "./recording.js";
import { tables } from "./tables.js";

/** @import { Snapshot } from "../../lesson.ts" */

/** The picture and its time line: now, or a moment before. */
export class Picture {
  #recording = new Recording();
  #places = new Places();
  /** The moment that is shown; `undefined` is the latest. @type {number | undefined} */
  #held;
  /** The moment of the latest picture to keep. @type {number | undefined} */
  #marked;
  #requested = false;
  #width = 0;
  #view = byId("view", HTMLElement);
  #painter = new Painter(this.#view);
  #moment = byId("moment", HTMLInputElement);
  #clock = byId("clock", HTMLOutputElement);
  #hold = byId("hold", HTMLButtonElement);
  #details = byId("tables", HTMLDetailsElement);
  #tableView = byId("table-view", HTMLElement);
  #listener;
  /** The pid of the process that is marked. @type {string | undefined} */
  #selected;

  /** @param {(snapshot: Snapshot) => void} listener Called with what is shown, when it changes. */
  constructor(listener) {
    this.#listener = listener;
    this.#hold.onclick = () => this.#show(this.#held === undefined ? this.#last() : undefined);
    byId("back", HTMLButtonElement).onclick = () => this.#show((this.#held ?? this.#last()) - 1);
    byId("forward", HTMLButtonElement).onclick = () => this.#show((this.#held ?? this.#last()) + 1);
    this.#moment.oninput = () => this.#show(this.#moment.valueAsNumber);
    byId("export", HTMLButtonElement).onclick = () => this.#export();
    this.#details.ontoggle = () => this.#request();
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry?.contentRect.width ?? 0);
      if (width === this.#width) return;
      this.#width = width;
      this.#places = new Places();
      this.#request();
    }).observe(this.#view);
  }

  /** Begins a new recording. */
  clear() {
    this.#recording = new Recording();
    this.#marked = undefined;
    this.#places = new Places();
    this.#show(undefined);
  }

  /** @param {{ type: string } & Record<string, unknown>} message */
  add(message) {
    if (!this.#recording.add(message)) return;
    if (message.type === "picture") this.#marked = this.#last();
    this.#request();
  }

  /** @returns {number} The index of the latest moment, to come back to. */
  get latest() {
    return this.#last();
  }

  /** @param {number} index Of the moment to show. */
  showMoment(index) {
    this.#show(index);
  }

  /** Shows the last moment that was marked, or the last one at which something was there. */
  showEnd() {
    let index = this.#marked ?? this.#last();
    while (index > 0 && this.#recording.moment(index).processes.length === 0) index--;
    this.#show(index);
  }

  /** @param {string | undefined} pid Of the process to mark. */
  select(pid) {
    this.#selected = pid;
    this.#request();
  }

  #last() {
    return this.#recording.length - 1;
  }

  /** @param {number | undefined} index */
  #show(index) {
    this.#held = index === undefined ? undefined : Math.min(Math.max(index, 0), this.#last());
    this.#hold.setAttribute("aria-pressed", String(this.#held !== undefined));
    this.#hold.textContent = this.#held === undefined ? "Hold" : "Go on";
    this.#view.classList.toggle("past", this.#held !== undefined);
    this.#request();
  }

  #request() {
    if (this.#requested) return;
    this.#requested = true;
    requestAnimationFrame(() => {
      this.#requested = false;
      this.#draw();
    });
  }

  #draw() {
    const index = this.#held ?? this.#last();
    const snapshot = this.#recording.moment(index);
    this.#moment.max = String(this.#last());
    this.#moment.value = String(index);
    const seconds = `${(snapshot.at / 1000).toFixed(2)} s`;
    this.#moment.setAttribute("aria-valuetext", seconds);
    this.#clock.value = seconds;
    if (this.#width > 0) {
      this.#painter.paint(drawShapes(snapshot, {
        width: this.#width,
        places: this.#places,
        ...(this.#selected === undefined ? {} : { selected: this.#selected }),
      }));
    }
    if (this.#details.open) this.#tableView.replaceChildren(tables(snapshot));
    this.#listener(snapshot);
  }

  #export() {
    const url = URL.createObjectURL(
      new Blob([this.#recording.export()], { type: "application/json" }),
    );
    const link = document.createElement("a");
    link.href = url;
    link.download = "lab.json";
    link.click();
    URL.revokeObjectURL(url);
  }
}
