/** How the server ends: after a delay for load balancers, gracefully, or at once. */
import { signalName } from "../../../ffi/signals.ts";
import { formatCount } from "../../log.ts";
import { StopRequests } from "../../stop_requests.ts";
import type { Context } from "./context.ts";
import { stopListening } from "./listeners.ts";
import type { Restart } from "./restart.ts";
import type { Workers } from "./workers.ts";

/** The end of the server. */
export class End {
  readonly #context: Context;
  readonly #workers: Workers;
  readonly #restart: Restart;
  readonly #requests = new StopRequests();
  /** When to stop, once the server drains. */
  #at = Infinity;

  /**
   * @param context The master's context.
   * @param workers The workers to stop.
   * @param restart The restart to abort.
   */
  constructor(context: Context, workers: Workers, restart: Restart) {
    this.#context = context;
    this.#workers = workers;
    this.#restart = restart;
  }

  /** How many milliseconds are left of the drain delay. */
  get delayLeft(): number {
    return this.#workers.stopping ? Infinity : Math.max(0, this.#at - performance.now());
  }

  /** Acts on a signal to stop gracefully; the second one stops immediately. */
  request(signum: number): void {
    if (!this.#requests.add()) return;
    const { scoreboard, config: { drainDelay, grace } } = this.#context;
    if (scoreboard.draining) this.stop(0, signalName(signum));
    else if (drainDelay > 0 && this.#workers.isAnyReady()) this.#drain(signalName(signum));
    else this.stop(grace, signalName(signum));
  }

  /** Stops the workers once the drain delay is over. */
  proceed(): void {
    if (this.delayLeft === 0) this.stop(this.#context.config.grace, "The drain delay is over");
  }

  /**
   * Stops the workers.
   *
   * @param grace How many seconds they have.
   * @param why What is said about it in the log.
   */
  stop(grace: number, why: string): void {
    this.#announce();
    const limit = grace === 0 ? " immediately" : grace === Infinity ? "" : `, within ${grace} s`;
    const workers = formatCount(this.#workers.count(), "worker");
    this.#context.log(`${why}: stopping ${workers}${limit}`);
    stopListening(this.#context, grace > 0);
    this.#restart.abort();
    this.#workers.stop(grace);
  }

  /** Lets load balancers notice that the server is about to stop, before it does. */
  #drain(why: string): void {
    this.#announce();
    const { log, config: { drainDelay } } = this.#context;
    this.#at = performance.now() + drainDelay * 1000;
    const workers = formatCount(this.#workers.count(), "worker");
    log(`${why}: draining for ${drainDelay} s, then stopping ${workers}`);
    this.#restart.abort();
  }

  /** Tells everyone who asks that the server is about to stop. */
  #announce(): void {
    const { scoreboard, notify } = this.#context;
    if (!scoreboard.draining) notify("stopping");
    scoreboard.draining = true;
  }
}
