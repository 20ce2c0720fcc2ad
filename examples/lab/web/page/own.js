/// <reference lib="dom" />
// @ts-check
import { byId, make, setOptions } from "./dom.js";

/** @import { Snapshot } from "../../lesson.ts" */

/**
 * A program that may be started.
 *
 * @typedef {object} Program
 * @property {string} file
 * @property {string} title
 * @property {boolean} serves
 * @property {readonly { name: string, label: string, value: number, min: number, max: number }[]} arguments
 */

/** The forms with which a reader builds an experiment of his own. */
export class Own {
  #program = byId("program", HTMLSelectElement);
  #arguments = byId("arguments", HTMLElement);
  #server = byId("server", HTMLSelectElement);
  #process = byId("process", HTMLSelectElement);
  #act;
  #trouble;
  /** @type {readonly Program[]} */
  #programs = [];
  /** The processes that are offered. */
  #pids = "";
  /** The pids of the servers that listen, and their ports. @type {Map<number, string>} */
  #servers = new Map();

  /**
   * @param {(action: Record<string, unknown>) => Promise<unknown>} act
   * @param {(error: unknown) => void} trouble
   * @param {(file: string) => void} show Shows the source of the program that is chosen.
   * @param {(pid: string) => void} select Marks the process that is chosen.
   */
  constructor(act, trouble, show, select) {
    this.#act = act;
    this.#trouble = trouble;
    this.#program.onchange = () => {
      this.#offerArguments();
      show(this.#program.value);
    };
    this.#process.onchange = () => select(this.#process.value);
    this.#onSubmit("start-form", () => this.#start());
    this.#onSubmit("clients-form", (button) => this.#send(button));
    this.#onSubmit("kill-form", () => ({
      action: "kill",
      pid: Number(this.#process.value),
      signal: byId("signal", HTMLSelectElement).value,
    }));
    this.#onSubmit("limit-form", () => ({
      action: "limit",
      pid: Number(this.#server.value),
      name: byId("limit-name", HTMLSelectElement).value,
      value: byId("limit-value", HTMLInputElement).valueAsNumber,
    }));
    byId("close-clients", HTMLButtonElement).onclick = () => this.#do({ action: "close" });
  }

  /**
   * @param {readonly Program[]} programs
   * @param {readonly string[]} signals
   */
  offer(programs, signals) {
    this.#programs = programs;
    setOptions(
      this.#program,
      programs.map(({ file, title }) => ({
        value: file,
        label: `${file.split("/").at(-1)}: ${title}`,
      })),
    );
    setOptions(
      byId("signal", HTMLSelectElement),
      signals.map((value) => ({ value, label: value })),
    );
    this.#offerArguments();
  }

  /** @returns {readonly string[]} The programs' files. */
  get files() {
    return this.#programs.map(({ file }) => file);
  }

  /** @returns {string} The chosen program's file. */
  get file() {
    return this.#program.value;
  }

  /** @param {{ type: string } & Record<string, any>} message */
  add(message) {
    if (message.type === "listening") this.#servers.set(message.pid, `port ${message.port}`);
    else if (message.type === "exit") this.#servers.delete(message.pid);
    else if (message.type === "stopped" || message.type === "ended") this.#servers.clear();
    else return;
    setOptions(
      this.#server,
      [...this.#servers].map(([pid, what]) => ({ value: String(pid), label: `${pid}, ${what}` })),
    );
  }

  /** @param {Snapshot} snapshot */
  update(snapshot) {
    const pids = snapshot.processes.map(({ pid }) => pid).join();
    if (pids === this.#pids) return; // many times a second
    this.#pids = pids;
    setOptions(
      this.#process,
      snapshot.processes.map(({ pid, program, role }) => ({
        value: String(pid),
        label: `${pid} ${program.split("/").at(-1)}, ${role}`,
      })),
    );
  }

  /** @param {string} pid */
  choose(pid) {
    this.#process.value = pid;
  }

  #start() {
    const fields = this.#arguments.querySelectorAll("input");
    const nofile = byId("start-nofile", HTMLInputElement).valueAsNumber;
    return {
      action: "start",
      program: this.#program.value,
      arguments: Object.fromEntries([...fields].map((field) => [field.name, field.valueAsNumber])),
      ...(Number.isNaN(nofile) ? {} : { limits: { nofile } }),
    };
  }

  /** @param {HTMLElement | null} button */
  #send(button) {
    const kind = document.querySelector('input[name="kind"]:checked');
    return {
      action: "clients",
      pid: Number(this.#server.value),
      count: Number(button?.getAttribute("value") ?? 1),
      kind: kind?.getAttribute("value"),
    };
  }

  #offerArguments() {
    const program = this.#programs.find(({ file }) => file === this.#program.value);
    this.#arguments.replaceChildren(
      ...(program?.arguments ?? []).map(({ name, label, value, min, max }) =>
        make("label", {}, [
          `${label} `,
          make("input", {
            type: "number",
            name,
            value: String(value),
            min: String(min),
            max: String(max),
            required: "",
          }),
        ])
      ),
    );
  }

  /**
   * @param {string} id
   * @param {(button: HTMLElement | null) => Record<string, unknown>} action
   */
  #onSubmit(id, action) {
    byId(id, HTMLFormElement).onsubmit = (event) => {
      event.preventDefault();
      this.#do(action(/** @type {SubmitEvent} */ (event).submitter));
    };
  }

  /** @param {Record<string, unknown>} action */
  async #do(action) {
    try {
      await this.#act(action);
    } catch (error) {
      this.#trouble(error);
    }
  }
}
