import { assertAlmostEquals, assertEquals } from "@std/assert";
import {
  comparable,
  formatDuration,
  formatP99,
  formatPercentiles,
  formatRate,
  quantile,
  since,
} from "../server/prefork/status/figures.ts";
import type { Status } from "../server/prefork/status/status.ts";

const histogram = (counts: number[]) => ({
  bounds: [0.01, 0.1, 1],
  counts,
  sum: 1,
  count: counts.reduce((sum, one) => sum + one, 0),
});

Deno.test("quantile() interpolates within a range, as Prometheus does", () => {
  const even = histogram([50, 50, 0, 0]);
  assertEquals(quantile(even, 0.25), 0.005);
  assertEquals(quantile(even, 0.5), 0.01);
  assertAlmostEquals(quantile(even, 0.75)!, 0.01 + 0.09 / 2);
  assertAlmostEquals(quantile(even, 1)!, 0.1);
  assertEquals(quantile(histogram([0, 0, 4, 0]), 0), 0.1);
  assertAlmostEquals(quantile(histogram([0, 0, 4, 0]), 0.5)!, 0.1 + 0.9 / 2);
  assertEquals(quantile(histogram([9, 0, 0, 1]), 0.99), Infinity);
  assertEquals(quantile(histogram([0, 0, 0, 0]), 0.5), undefined);
});

Deno.test("since() subtracts, and is never negative", () => {
  assertEquals(since(histogram([5, 4, 3, 2]), histogram([1, 4, 5, 0])), {
    ...histogram([4, 0, 0, 2]),
    sum: 0,
  });
  assertEquals(since(histogram([5, 4, 3, 2])), histogram([5, 4, 3, 2]));
});

Deno.test("comparable() refuses the status of another server", () => {
  const status = (pid: number, uptime: number, started = "2026") =>
    ({ master: { pid, uptime, started } }) as unknown as Status;
  const now = status(1, 10);
  const before = status(1, 9);
  assertEquals(comparable(now, before), before);
  for (const other of [undefined, status(2, 9), status(1, 10), status(1, 9, "2025")]) {
    assertEquals(comparable(now, other), undefined);
  }
});

Deno.test("the figures are formatted with the digits that count", () => {
  assertEquals(
    [0.00012345, 0.001, 0.0099, 0.01234, 0.999, 0.9999, 1.26, 9.94, 9.96, 120].map(formatDuration),
    ["0.12 ms", "1 ms", "9.9 ms", "12 ms", "1.0 s", "1.0 s", "1.3 s", "9.9 s", "10 s", "120 s"],
  );
  assertEquals(
    [[0, 1], [-1, 1], [1, 0], [1, 100], [1, 10], [34, 10], [99.4, 10], [999, 10]]
      .map(([count, seconds]) => formatRate(count!, seconds!)),
    ["0", "0", "0", "<0.1", "0.1", "3.4", "9.9", "100"],
  );
  assertEquals(
    formatPercentiles(histogram([98, 0, 0, 2])),
    "p50 5.1 ms, p90 9.2 ms, p99 over 1.0 s",
  );
  assertEquals(formatPercentiles(histogram([0, 0, 0, 0])), "");
  assertEquals(
    [[98, 0, 0, 2], [0, 4, 0, 0], [0, 0, 0, 0]].map((counts) => formatP99(histogram(counts))),
    [">1.0 s", "99 ms", "-"],
  );
});
