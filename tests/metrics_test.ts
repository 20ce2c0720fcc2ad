import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { estimateBytes } from "../server/prefork/logs/response_bytes.ts";
import {
  LATENCY_BOUNDS,
  REQUEST_METRICS_BYTES,
  RequestMetrics,
  SIZE_BOUNDS,
  sumOfMetrics,
} from "../server/prefork/request_metrics.ts";
import { REQUEST_BYTES, RequestTable } from "../server/prefork/request_table.ts";
import { startReason } from "../server/prefork/start_reason.ts";
import { VERSION } from "../server/version.ts";
import { ROOT } from "./support.ts";

Deno.test("startReason() understands what the master notes about workers", () => {
  const ends = [
    ["start", "start"],
    ["SIGHUP", "reload"],
    ["SIGUSR2", "replace"],
    ["leave", "scale"],
    ["stop", "scale"],
    ["1000 requests", "requests"],
    ["300 MB of private memory", "memory"],
    ["killed because its event loop was blocked for 30 s", "timeout"],
    ["killed because it was not ready within 60 s", "timeout"],
    ["killed by SIGKILL", "crash"],
    ["exited with code 1", "crash"],
    ["exited with code 0", "crash"],
  ] as const;
  for (const [end, reason] of ends) assertEquals(startReason(end), reason, end);
});

Deno.test("the version in the code is that of the package", () => {
  const { version } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
  assertEquals(VERSION, version);
});

function metrics(): RequestMetrics {
  return new RequestMetrics(new ArrayBuffer(REQUEST_METRICS_BYTES), 0);
}

Deno.test("RequestMetrics.record() counts a value that equals a bound in the range below it", () => {
  const one = metrics();
  LATENCY_BOUNDS.forEach((bound) => one.record("GET", 200, bound * 1000, null));
  one.record("GET", 200, 0, null);
  one.record("GET", 200, 60_001, null);
  const { latency, responseBytes } = one;
  assertEquals(latency.counts, [2, ...LATENCY_BOUNDS.slice(1).map(() => 1), 1]);
  assertEquals(latency.count, LATENCY_BOUNDS.length + 2);
  assertAlmostEquals(latency.sum, LATENCY_BOUNDS.reduce((sum, bound) => sum + bound, 60.001));
  assertEquals([responseBytes.count, responseBytes.sum], [0, 0]);
});

Deno.test("RequestMetrics.record() counts sizes that are known, methods and classes", () => {
  const one = metrics();
  one.record("GET", 200, 1, 0);
  one.record("GET", 204, 1, 100);
  one.record("HEAD", 304, 1, 101);
  one.record("PROPFIND", 207, 1, 1e9);
  one.record("get", 599, 1, null);
  one.record("POST", 101, 1, null);
  assertEquals(one.responseBytes, {
    bounds: SIZE_BOUNDS,
    counts: [2, 1, 0, 0, 0, 0, 0, 1],
    sum: 1e9 + 201,
    count: 4,
  });
  const expected = [
    { method: "other", statusClass: "2xx", count: 1 },
    { method: "other", statusClass: "5xx", count: 1 },
    { method: "GET", statusClass: "2xx", count: 2 },
    { method: "POST", statusClass: "1xx", count: 1 },
    { method: "HEAD", statusClass: "3xx", count: 1 },
  ];
  assertEquals(one.responses, expected);
  const sum = sumOfMetrics([one, one]);
  assertEquals(sum.responses, expected.map((row) => ({ ...row, count: 2 * row.count })));
  assertEquals([sum.latency.count, sum.responseBytes.sum], [12, 2e9 + 402]);
  one.clear();
  assertEquals([one.responses, one.latency.count], [[], 0]);
});

Deno.test("RequestTable.offer() keeps the slowest requests of the last minutes, without queries", () => {
  const table = new RequestTable(new ArrayBuffer(3 * REQUEST_BYTES), 0, 3);
  const now = 1e12;
  const offer = (duration: number, since = now) =>
    table.offer({
      method: "GET",
      url: `/${duration}?token`,
      since,
      duration,
      status: 200,
      worker: 1,
    });
  const kept = (at = now) => table.slow(at).map(({ duration }) => duration).sort((a, b) => a - b);
  for (const duration of [300, 100, 200, 150, 50]) offer(duration);
  assertEquals(kept(), [150, 200, 300]);
  offer(1000, now + 60_000);
  assertEquals(kept(), [200, 300, 1000]);
  assertEquals(table.slow(now).find(({ duration }) => duration === 1000), {
    method: "GET",
    url: "/1000",
    since: now + 60_000,
    duration: 1000,
    status: 200,
    worker: 1,
  });
  // Those of five minutes ago leave space for a shorter one.
  assertEquals(kept(now + 301_000), [1000]);
  offer(110, now + 302_000);
  assertEquals(kept(now + 302_000), [110, 1000]);
  table.clear();
  assertEquals(kept(), []);
});

Deno.test("RequestTable.setCurrent() replaces the requests, and truncates what does not fit", () => {
  const table = new RequestTable(new ArrayBuffer(2 * REQUEST_BYTES), 0, 2);
  const requests = ["/a?b", "/ c", "/d"].map((url, i) => ({ method: "GET", url, since: i + 1 }));
  table.setCurrent(requests);
  assertEquals(table.current(), [
    { method: "GET", url: "/a", since: 1 },
    { method: "GET", url: "/ c", since: 2 },
  ]);
  const long = `/${"ä".repeat(1000)}`;
  table.setCurrent([{ method: "GET", url: long, since: 5 }]);
  const [only, ...others] = table.current();
  assert(long.startsWith(only!.url) && only!.url.length > 100);
  assertEquals([others, only!.since], [[], 5]);
});

Deno.test("estimateBytes() is exact for short texts, and for long ones of equal characters", () => {
  for (const text of ["", "hello", "hällo 漢 \u{1f600}", "x".repeat(33), "ä".repeat(100)]) {
    assertEquals(estimateBytes(new Response(text)), new TextEncoder().encode(text).length, text);
  }
  for (const text of ["x".repeat(1e6), "ä".repeat(1e5), "漢".repeat(1e5)]) {
    const bytes = new TextEncoder().encode(text).length;
    const estimate = estimateBytes(new Response(text))!;
    assert(Math.abs(estimate - bytes) <= bytes / 100, `${estimate} of ${bytes}`);
  }
});
