/**
 * Measures the lab's page while it shows a server with 128 children: frames per second in
 * Chromium, how long it takes to draw a picture, and what the sampler takes of a processor.
 * `deno run -A tests/bench/lab_page.ts`
 */
import { drawn, LabInBrowser, startProgram } from "../lab/browser.ts";
import { until } from "../support.ts";

/** Seconds that are measured. */
const SECONDS = 10;

/** Counts frames, and adds up the time that the page's own frame callbacks take. */
const MEASURE = `new Promise((resolve) => {
  const request = requestAnimationFrame;
  const busy = [];
  requestAnimationFrame = (callback) => request((time) => {
    const start = performance.now();
    callback(time);
    busy.push(performance.now() - start);
  });
  const clients = setInterval(() => document.querySelector("button[value='2']").click(), 250);
  const gaps = [];
  const start = performance.now();
  let before = start;
  request(function frame(time) {
    const now = performance.now();
    gaps.push(now - before);
    before = now;
    if (now - start < ${SECONDS * 1000}) return request(frame);
    clearInterval(clients);
    gaps.sort((a, b) => a - b);
    busy.sort((a, b) => a - b);
    resolve({
      frames: gaps.length / ((now - start) / 1000),
      slowest: gaps.at(-1),
      pictures: busy.length / ((now - start) / 1000),
      median: busy[busy.length >> 1] ?? 0,
      longest: busy.at(-1) ?? 0,
    });
  });
})`;

interface Measured {
  readonly frames: number;
  readonly slowest: number;
  readonly pictures: number;
  readonly median: number;
  readonly longest: number;
}

await using browser = await LabInBrowser.start();
const page = await browser.open();
await startProgram(page, "examples/part3/webserver3g.ts");
// A child waits for the request of each.
await page.check("input[value=silent]");
await page.click("button[value='128']");
await until(
  async () => (await drawn(page, "[data-pid]", "data-pid")).length >= 129,
  "128 children",
  100_000,
);
// Something has to change: otherwise nothing is drawn.
await page.check("input[value=plain]");
const { frames, slowest, pictures, median, longest } = await page.evaluate<Measured>(MEASURE);
console.log(`128 children, ${SECONDS} seconds:`);
console.log(
  `frames per second   ${frames.toFixed(1)} (longest between two: ${slowest.toFixed(0)} ms)`,
);
console.log(`pictures per second ${pictures.toFixed(1)}`);
console.log(`drawing a picture   ${median.toFixed(1)} ms (longest: ${longest.toFixed(1)} ms)`);
console.log(await page.innerText("#rate"));
console.log(`load average        ${Deno.loadavg()[0]!.toFixed(1)}`);
await page.close();
