/// <reference lib="dom" />
// @ts-check
import { byId, make, setOptions, table } from "./dom.js";
import { get } from "./session.js";

/** Preforking servers that run: workers as a tree, their requests, memory and restarts. */
export class ServersView {
  #select = byId("running", HTMLSelectElement);
  #place = byId("status", HTMLElement);
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  constructor() {
    this.#select.onchange = () => this.#look();
  }

  /** @param {boolean} visible Whether it is looked at. */
  show(visible) {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (!visible) return;
    this.#timer = setInterval(() => this.#look(), 1000);
    this.#look();
  }

  async #look() {
    try {
      const { servers } = await get("servers.json");
      setOptions(
        this.#select,
        servers.map((/** @type {{ pid: number, name: string }} */ { pid, name }) => ({
          value: String(pid),
          label: `${name} (pid ${pid})`,
        })),
      );
      if (this.#select.value === "") {
        this.#place.replaceChildren(make("p", {}, ["No preforking server can be looked at."]));
        return;
      }
      this.#place.replaceChildren(draw(await get(`servers/${this.#select.value}/status.json`)));
    } catch (error) {
      this.#place.replaceChildren(
        make("p", { role: "alert" }, [/** @type {Error} */ (error).message]),
      );
    }
  }
}

/**
 * @param {Record<string, any>} status
 * @returns {HTMLElement}
 */
function draw({ master, admin, workers }) {
  const most = Math.max(1, ...workers.map((/** @type {any} */ worker) => bytesOf(worker)));
  return make("div", {}, [
    make("p", {}, [
      `${master.url || "(no URL)"}, master ${master.pid}, up ${duration(master.uptime)}`,
      `, ${master.generation} restarts with new code, ${master.crashes} crashes`,
    ]),
    make("p", {}, [
      `${master.requests} requests, ${master.errors} failed`,
      admin === null ? "" : `; admin socket: pid ${admin.pid}`,
    ]),
    make(
      "ul",
      { class: "workers", "aria-label": "Workers" },
      workers.map((
        /** @type {any} */ worker,
      ) =>
        make("li", { class: "worker" }, [
          make("b", {}, [`worker ${worker.number}, pid ${worker.pid}`]),
          make("span", {}, [
            worker.stalled > 0 ? `blocked ${duration(worker.stalled)}` : worker.state,
          ]),
          make("span", {}, [`${worker.requests} requests`]),
          make("meter", {
            min: "0",
            max: String(most),
            value: String(bytesOf(worker)),
            "aria-label": `Private memory of worker ${worker.number}`,
          }),
        ])
      ),
    ),
    table(
      "Workers",
      [
        "worker",
        "pid",
        "age",
        "in flight",
        "connections",
        "failed",
        "private",
        "shared",
        "busy",
        "started because of",
        "last request",
      ],
      workers.map((/** @type {any} */ worker) => [
        String(worker.number),
        String(worker.pid),
        duration(worker.age),
        String(worker.inFlight),
        String(worker.connections),
        String(worker.errors),
        mebibytes(worker.memory?.privateBytes),
        mebibytes(worker.memory?.sharedBytes),
        `${Math.round(worker.busy * 100)} %`,
        worker.reason,
        worker.request,
      ]),
    ),
  ]);
}

/**
 * @param {{ memory: { privateBytes: number } | null }} worker
 * @returns {number}
 */
function bytesOf(worker) {
  return worker.memory?.privateBytes ?? 0;
}

/**
 * @param {number | undefined} bytes
 * @returns {string}
 */
function mebibytes(bytes) {
  return bytes === undefined ? "unknown" : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/**
 * @param {number} seconds
 * @returns {string}
 */
function duration(seconds) {
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
