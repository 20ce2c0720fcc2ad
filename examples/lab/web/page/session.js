/// <reference lib="dom" />
// @ts-check

/** @typedef {{ type: string } & Record<string, any>} Message */

/** What is started on the server for this page, and what it says about it. */
export class Session {
  /** @type {Promise<string> | undefined} */
  #id;
  /** @type {EventSource | undefined} */
  #events;
  #receive;

  /** @param {(message: Message) => void} receive Called with each message. */
  constructor(receive) {
    this.#receive = receive;
    addEventListener("pagehide", () => this.#end());
  }

  /**
   * Has the server do something; starts the session if there is none.
   *
   * @param {Record<string, unknown>} action
   * @returns {Promise<Record<string, any>>} The reply.
   * @throws {Error} If it is refused: its message is for the reader.
   */
  async act(action) {
    this.#id ??= this.#start();
    const id = await this.#id;
    return await post(`sessions/${id}/actions`, action);
  }

  /** @returns {Promise<string>} */
  async #start() {
    try {
      const { id } = await post("sessions", {});
      const events = new EventSource(`sessions/${id}/events`);
      this.#events = events;
      events.onmessage = ({ data }) => {
        const message = /** @type {Message} */ (JSON.parse(data));
        if (message.type === "ended") this.#forget();
        this.#receive(message);
      };
      events.onerror = () => {
        if (events.readyState !== EventSource.CLOSED) return; // it connects again by itself
        this.#forget();
        this.#receive({
          type: "ended",
          reason: "The server has ended this session: press Play or Start for another",
        });
      };
      return id;
    } catch (error) {
      this.#id = undefined;
      throw error;
    }
  }

  #forget() {
    this.#events?.close();
    this.#events = undefined;
    this.#id = undefined;
  }

  #end() {
    const id = this.#id;
    this.#forget();
    id?.then((id) => fetch(`sessions/${id}`, { method: "DELETE", keepalive: true }))
      .catch(() => {}); // the session ends without it too, seconds later
  }
}

/**
 * @param {string} path
 * @param {unknown} body
 * @returns {Promise<Record<string, any>>}
 */
async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return await read(response);
}

/**
 * Gets JSON.
 *
 * @param {string} path
 * @returns {Promise<any>}
 * @throws {Error} If it is refused: its message is for the reader.
 */
export async function get(path) {
  return await read(await fetch(path));
}

/**
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function read(response) {
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error ?? `The server answered ${response.status}`);
  return reply;
}
