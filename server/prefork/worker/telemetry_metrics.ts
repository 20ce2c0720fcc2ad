/**
 * What the scoreboard shows, as metrics of OpenTelemetry, which Deno exports. Each worker has its
 * own. Deno itself exports how long requests took, `http.server.request.duration`.
 */
import { VERSION } from "../../version.ts";
import { ADMIN, type Slot } from "../scoreboard.ts";
import type { WorkerContext } from "./worker.ts";

/** The relevant part of OpenTelemetry's `Meter`. */
type Meter = {
  readonly [method in `createObservable${Kind}`]: (name: string, options: {
    readonly description: string;
    readonly unit: string;
  }) => { addCallback(callback: (result: Result) => void): void };
};

type Kind = "Counter" | "UpDownCounter" | "Gauge";

interface Result {
  observe(value: number, attributes: Record<string, string>): void;
}

/** A value, and what distinguishes it from others of the metric. */
type Value = readonly [value: number, attributes?: Record<string, string>];

/**
 * Exports the metrics of a worker, for as long as it lives. Those of the server as a whole are
 * exported by one of the workers.
 */
export function exportMetrics(
  { number, slot, scoreboard }: Pick<WorkerContext, "number" | "slot" | "scoreboard">,
): void {
  const meter: Meter = Deno.telemetry.meterProvider.getMeter("tine", VERSION);
  const own = { "tine.worker": String(number) };

  ofWorker("Counter", "requests", "{request}", "Requests to the worker.", () => slot.requests);
  ofWorker("Counter", "errors", "{request}", "Requests that failed.", () => slot.errors);
  ofWorker(
    "UpDownCounter",
    "active_requests",
    "{request}",
    "Requests that the worker has not completely answered.",
    () => slot.inFlight,
  );
  ofWorker(
    "UpDownCounter",
    "connections",
    "{connection}",
    "Open client connections.",
    () => slot.connections,
  );
  ofWorker("Gauge", "busy", "1", "The share of one processor that is used.", () => slot.busy);
  ofServer(
    "Counter",
    "starts",
    "{process}",
    "Workers that were started, by reason.",
    () => scoreboard.starts.map(({ reason, count }) => [count, { "tine.reason": reason }]),
  );
  ofServer(
    "Counter",
    "crashes",
    "{process}",
    "Workers that ended without being told to.",
    () => [[scoreboard.crashes]],
  );
  ofServer(
    "Counter",
    "restarts",
    "{restart}",
    "Restarts of the server with new code.",
    () => [[scoreboard.generation]],
  );
  ofServer(
    "UpDownCounter",
    "workers",
    "{process}",
    "Workers that serve.",
    () => [[ready().length]],
  );
  ofServer(
    "UpDownCounter",
    "listener.queue",
    "{connection}",
    "Connections that wait to be accepted.",
    () =>
      scoreboard.listeners.get().flatMap(({ url, queue }) =>
        queue === null ? [] : [[queue, { "tine.listener": url }]]
      ),
  );

  function ofWorker(
    kind: Kind,
    name: string,
    unit: string,
    description: string,
    value: () => number,
  ): void {
    meter[`createObservable${kind}`](`tine.worker.${name}`, { unit, description })
      .addCallback((result) => result.observe(value(), own));
  }

  function ofServer(
    kind: Kind,
    name: string,
    unit: string,
    description: string,
    values: () => readonly Value[],
  ): void {
    meter[`createObservable${kind}`](`tine.${name}`, { unit, description })
      .addCallback((result) => {
        if (ready()[0]?.index !== slot.index) return;
        for (const [value, attributes = {}] of values()) result.observe(value, attributes);
      });
  }

  /** The workers that serve, in an order that is the same in all of them. */
  function ready(): Slot[] {
    return scoreboard.slots.filter(({ state, number }) => state === "ready" && number !== ADMIN);
  }
}
