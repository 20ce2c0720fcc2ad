/**
 * What it costs to measure a request: the time that a worker spends on its metrics, for a handler
 * that answers at once. Run it with `deno run --allow-ffi tests/bench/metrics.ts`.
 */
import { estimateBytes } from "../../server/prefork/logs/response_bytes.ts";
import { createScoreboard } from "../../server/prefork/scoreboard.ts";
import { Meter } from "../../server/prefork/worker/meter.ts";

const REQUESTS = 200_000;
const ROUNDS = 25;
const CLIENT = {
  remoteAddr: { transport: "tcp", hostname: "127.0.0.1", port: 1 },
} as const;

const { scoreboard: { slots: [slot] }, file } = createScoreboard();
const bodies: readonly [name: string, response: Response][] = [
  ["13 characters", new Response("Hello, world\n")],
  ["1,000 characters", new Response("x".repeat(1000))],
  ["100,000 characters", new Response("x".repeat(100_000))],
  ["100,000 characters beyond ASCII", new Response("ä".repeat(100_000))],
  ["1,000 bytes", new Response(new Uint8Array(1000))],
];
const meter = new Meter(slot!);
for (const [name, response] of bodies) {
  console.log(
    `${name.padEnd(32)} ${measure(response).toFixed(0).padStart(5)} ns per request`,
  );
}
file.close();

/** Returns the nanoseconds for each request, in the fastest round: others had the processor, too. */
function measure(response: Response): number {
  let fastest = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let i = 0; i < REQUESTS; i++) {
      const exchange = meter.begin(CLIENT, "GET", "http://127.0.0.1:8000/");
      meter.end(exchange, 200, estimateBytes(response));
    }
    fastest = Math.min(fastest, (performance.now() - start) / REQUESTS * 1e6);
  }
  return fastest;
}
