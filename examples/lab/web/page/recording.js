// @ts-check
// What came from the server, so that a reader can go back to any moment.
import { socketKey } from "./drawing/canvas.js";

/** @import { ClientView, ProcessView, Snapshot, SocketView } from "../../lesson.ts" */

/**
 * What changed since the message before.
 *
 * @typedef {object} Delta
 * @property {"delta"} type
 * @property {number} at
 * @property {readonly ProcessView[]} [processes]
 * @property {readonly SocketView[]} [sockets]
 * @property {readonly ClientView[]} [clients]
 * @property {{ processes?: readonly number[], sockets?: readonly string[], clients?: readonly number[] }} [gone]
 */

/** Moments that are kept: a quarter of an hour at twenty a second. */
const MOMENTS = 18_000;
/** The states of a client that stay, and its time with them. @type {ReadonlySet<string>} */
const ENDED = new Set(["closed", "refused", "reset", "gave-up"]);
/** @type {Snapshot} */
const NOTHING = { at: 0, processes: [], sockets: [], clients: [] };

/** All that was seen of an experiment. */
export class Recording {
  /** @type {Map<number, ProcessView>} */
  #processes = new Map();
  /** @type {Map<string, SocketView>} */
  #sockets = new Map();
  /** @type {Map<number, ClientView>} */
  #clients = new Map();
  /** When each client was last reported. @type {Map<number, number>} */
  #reported = new Map();
  /** @type {Snapshot[]} */
  #moments = [NOTHING];
  /** @type {{ at: number, message: unknown }[]} */
  #messages = [];

  /** @returns {number} How many moments there are; at least one. */
  get length() {
    return this.#moments.length;
  }

  /**
   * @param {number} index
   * @returns {Snapshot}
   */
  moment(index) {
    return this.#moments[Math.min(Math.max(index, 0), this.length - 1)] ?? NOTHING;
  }

  /**
   * Adds a message. Returns whether it is a new moment.
   *
   * @param {{ type: string } & Record<string, unknown>} message
   * @returns {boolean}
   */
  add(message) {
    if (message.type === "snapshot") {
      const snapshot = /** @type {Snapshot} */ (message.snapshot);
      this.#processes = new Map(snapshot.processes.map((process) => [process.pid, process]));
      this.#sockets = new Map(snapshot.sockets.map((socket) => [socketKey(socket), socket]));
      this.#clients = new Map(snapshot.clients.map((client) => [client.number, client]));
      for (const client of snapshot.clients) this.#reported.set(client.number, snapshot.at);
      this.#keep(snapshot.at, message);
    } else if (message.type === "delta") {
      const delta = /** @type {Delta} */ (/** @type {unknown} */ (message));
      for (const pid of delta.gone?.processes ?? []) this.#processes.delete(pid);
      for (const key of delta.gone?.sockets ?? []) this.#sockets.delete(key);
      for (const number of delta.gone?.clients ?? []) this.#clients.delete(number);
      for (const process of delta.processes ?? []) this.#processes.set(process.pid, process);
      for (const socket of delta.sockets ?? []) this.#sockets.set(socketKey(socket), socket);
      for (const client of delta.clients ?? []) {
        this.#clients.set(client.number, client);
        this.#reported.set(client.number, delta.at);
      }
      this.#keep(delta.at, message);
    } else if (message.type === "picture") {
      const snapshot = /** @type {Snapshot} */ (message.snapshot);
      this.#messages.push({ at: snapshot.at, message });
      this.#moments.push(snapshot);
    } else {
      this.#messages.push({ at: this.moment(this.length - 1).at, message });
      return false;
    }
    return true;
  }

  /** @returns {string} All messages, as JSON. */
  export() {
    return JSON.stringify({ format: "tine lab 1", messages: this.#messages }, null, 1);
  }

  /**
   * @param {number} at
   * @param {unknown} message
   */
  #keep(at, message) {
    for (const number of this.#reported.keys()) {
      if (!this.#clients.has(number)) this.#reported.delete(number);
    }
    this.#messages.push({ at, message });
    this.#moments.push({
      at,
      processes: [...this.#processes.values()].sort((a, b) => a.pid - b.pid),
      sockets: [...this.#sockets.values()].sort((a, b) => a.inode - b.inode),
      clients: [...this.#clients.values()].map((client) => this.#now(client, at)).sort((a, b) =>
        a.number - b.number
      ),
    });
    if (this.length > MOMENTS) this.#moments.splice(0, MOMENTS / 10);
  }

  /**
   * Counts a client's seconds on: they alone are no reason for a message.
   *
   * @param {ClientView} client
   * @param {number} at
   * @returns {ClientView}
   */
  #now(client, at) {
    const since = this.#reported.get(client.number) ?? at;
    return ENDED.has(client.state)
      ? client
      : { ...client, seconds: client.seconds + Math.max(0, at - since) / 1000 };
  }
}
