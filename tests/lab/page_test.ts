// The lab's page in a real browser: what it shows is what /proc says, whoever reads it.
import { assert, assertEquals, assertGreater } from "@std/assert";
import axe from "npm:axe-core@4.14.1";
import { childrenOf, descriptorsOf, processState, until, zombiesOf } from "../support.ts";
import { CHROMIUM, drawn, LabInBrowser, type Page, play, startProgram } from "./browser.ts";

if (CHROMIUM === undefined) console.log("The lab's page is not tested: there is no Chromium");

/** Lessons at once: each is another reader. */
const READERS = 4;

let browser: LabInBrowser;

if (CHROMIUM !== undefined) {
  Deno.test.beforeAll(async () => {
    browser = await LabInBrowser.start();
  });
  Deno.test.afterAll(async () => {
    await browser[Symbol.asyncDispose]();
  });
}

/** A test of the page; what it leaves open is the browser's. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name,
    fn,
    ignore: CHROMIUM === undefined,
    sanitizeOps: false,
    sanitizeResources: false,
  });
}

test("the page plays each lesson, and shows its verdict", async () => {
  const { lessons } = await (await fetch(new URL("lessons.json", browser.url))).json();
  assertGreater(lessons.length, 20);
  const names: string[] = lessons.map(({ name }: { name: string }) => name);
  // Whether a verdict is right is tested with the lessons; here, whether the page shows what it is.
  const wrong: string[] = [];
  await Promise.all(Array.from({ length: READERS }, async () => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const page = await browser.open({ lesson: name });
      const holds = await play(page);
      const count = (selector: string) => page.locator(selector).count();
      const shown = await count("#log .holds") > 0 && await count("#log .command") > 0 &&
        (await page.innerText("#verdict")).length > 200;
      if (!shown || holds !== (await count("#log .differs") === 0)) {
        wrong.push(`${name}: ${await page.innerText("#verdict")} ${await page.innerText("#log")}`);
      }
      await page.close();
    }
  }));
  assertEquals(wrong, []);
});

test("the page's zombies are those in /proc, and none is left when all is ended", async () => {
  const page = await browser.open();
  const pid = await startProgram(page, "examples/part3/webserver3f.ts");
  await page.click("button[value='128']");
  await until(
    async () => {
      const zombies = zombiesOf(pid).map(String);
      const states = await drawn(page, "[data-client]", "data-state");
      return states.length === 128 && states.every((state) => state === "closed") &&
        zombies.length > 0 &&
        equal(await drawn(page, "[data-pid][data-state=zombie]", "data-pid"), zombies) &&
        equal(await drawn(page, "[data-pid]", "data-pid"), [pid, ...childrenOf(pid)].map(String));
    },
    "the page to show the zombies that there are",
    30_000,
  );
  const pids = (await drawn(page, "[data-pid]", "data-pid")).map(Number);
  await page.click("#stop");
  await until(
    async () => (await drawn(page, "[data-pid]", "data-pid")).length === 0,
    "an empty tree",
  );
  // Whoever is process 1 may take its time to wait for the orphans that have ended.
  const left = pids.map(processState).filter((state) => state !== undefined);
  assertEquals(left.filter(({ state, ppid }) => state !== "Z" || ppid !== 1), []);
  await page.close();
});

test("the page's descriptors, arrows and reference counts are those in /proc", async () => {
  const page = await browser.open();
  const pid = await startProgram(page, "examples/part3/webserver3d.ts");
  for (const clients of [2, 3]) {
    await page.click(`button[value='${clients === 2 ? 2 : 1}']`);
    await until(
      async () =>
        (await drawn(page, "[data-client][data-state=hung]", "data-client")).length >= clients,
      "hung clients",
      30_000,
    );
  }
  let differing: unknown;
  await until(
    async () => (differing = await compareDescriptors(page, pid)) === undefined,
    "the same",
    10_000,
  )
    .catch((error) => {
      throw new Error(`${error.message}: ${JSON.stringify(differing)}`);
    });
  await page.close();
});

/** Whether both have the same members. */
function equal(some: readonly string[], others: readonly string[]): boolean {
  return JSON.stringify(some.toSorted()) === JSON.stringify(others.toSorted());
}

/** Returns what is drawn of a process and what `/proc` says, if they differ. */
async function compareDescriptors(page: Page, pid: number): Promise<unknown> {
  const actual = descriptorsOf(pid);
  const cells = await drawn(page, `[data-pid='${pid}'] [data-fd]`, "data-fd");
  const own = Number((await page.innerHTML("#view")).match(/and (\d+) of Deno/)?.[1] ?? 0);
  const inode = (fd: string) => actual.get(Number(fd))?.match(/^(socket|pipe):\[(\d+)\]$/);
  const arrows = await pairs(page, "arrow", "to");
  // Standard output goes to the lab, not to another process of the stage: it has no arrow.
  const expected = cells.filter((fd) => Number(fd) > 2 && inode(fd)).map((fd) =>
    `${pid}:${fd} ${inode(fd)![1] === "pipe" ? "pipe" : "tcp"}:${inode(fd)![2]}`
  );
  const references = await pairs(page, "socket", "references");
  const targets = [...actual.values()];
  const counted = references.map((reference) => {
    const [socket] = reference.split(" ");
    const target = `:[${socket!.split(":")[1]}]`;
    return `${socket} ${targets.filter((other) => other.endsWith(target)).length}`;
  });
  const same = cells.length + own === actual.size && cells.every((fd) => actual.has(Number(fd))) &&
    expected.length === 4 && equal(arrows, expected) && equal(references, counted);
  return same
    ? undefined
    : { cells, own, actual: [...actual], arrows, expected, references, counted };
}

/** Two data attributes of what is drawn, as "one other". */
async function pairs(page: Page, one: string, other: string): Promise<string[]> {
  return await page.locator(`#view [data-${one}]`).evaluateAll(
    (elements, names) =>
      elements.map((element) => {
        const { dataset } = element as unknown as { dataset: Record<string, string> };
        return names.map((name) => dataset[name]).join(" ");
      }),
    [one, other],
  );
}

test("the page's time line stops, goes back and is exported", async () => {
  const page = await browser.open({ lesson: "3d" });
  assert(await play(page));
  const last = Number(await page.getAttribute("#moment", "max"));
  assertGreater(last, 5);
  await page.locator("#moment").fill(String(last));
  await until(
    async () => (await drawn(page, "[data-pid]", "data-pid")).length === 0,
    "the empty end",
  );
  for (let back = 0; back < last; back++) {
    await page.click("#back");
    await until(
      async () => Number(await page.inputValue("#moment")) === last - back - 1,
      "the moment before",
    );
    if ((await drawn(page, "[data-pid]", "data-pid")).length > 0) break;
  }
  assertGreater((await drawn(page, "[data-pid]", "data-pid")).length, 0);
  const moment = Number(await page.inputValue("#moment"));
  await page.click("#forward");
  await until(
    async () => Number(await page.inputValue("#moment")) === moment + 1,
    "the moment after",
  );
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#export")]);
  const path = await download.path();
  const { format, messages } = JSON.parse(await Deno.readTextFile(path));
  assertEquals(format, "tine lab 1");
  const types = new Set(messages.map(({ message }: { message: { type: string } }) => message.type));
  for (const type of ["snapshot", "command", "figure", "verdict"]) assert(types.has(type), type);
  await page.close();
});

/** Presses Tab until the element has the focus, which has to be visible all the way. */
async function tabTo(page: Page, selector: string): Promise<void> {
  for (let presses = 0; presses < 200; presses++) {
    await page.keyboard.press("Tab");
    const visible = await page.evaluate(
      "document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'",
    );
    assert(visible, `No focus is visible on the way to ${selector}`);
    if (await page.evaluate(`document.activeElement?.matches(${JSON.stringify(selector)})`)) return;
  }
  throw new Error(`Tab does not lead to ${selector}`);
}

test("the page plays a lesson with the keyboard alone", async () => {
  const page = await browser.open({ lesson: "3b" });
  await tabTo(page, ".skip");
  await tabTo(page, "#lessons [data-name='3d']");
  await page.keyboard.press("Enter");
  await tabTo(page, "#play");
  await page.keyboard.press("Enter");
  for (let steps = 0; await page.locator("#verdict.holds").count() === 0; steps++) {
    assert(steps < 20, "The lesson does not end");
    await page.waitForSelector("#next:not([disabled]), #verdict.holds", { timeout: 30_000 });
    if (await page.locator("#next:not([disabled])").count() === 0) break;
    if (await page.evaluate("document.activeElement?.id") !== "next") await tabTo(page, "#next");
    await page.keyboard.press("Enter");
  }
  await page.waitForSelector("#verdict.holds");
  await tabTo(page, "#moment");
  const before = await page.inputValue("#moment");
  await page.keyboard.press("ArrowLeft");
  await until(
    async () => Number(await page.inputValue("#moment")) === Number(before) - 1,
    "the moment before",
  );
  await page.close();
});

test("axe finds nothing to complain about in the page", async () => {
  for (
    const look of [{ scheme: "light" }, { scheme: "dark" }, {
      scheme: "light",
      width: 390,
    }] as const
  ) {
    const page = await browser.open({ ...look, lesson: "3d" });
    await page.evaluate(axe.source);
    await examine(page, "a lesson");
    await play(page);
    await page.click("#tables summary");
    await examine(page, "a lesson's verdict");
    await startProgram(page, "examples/part3/webserver3d.ts");
    await page.click("button[value='2']");
    await examine(page, "an experiment");
    await page.click("[data-view=servers]");
    await page.waitForSelector(".worker");
    await examine(page, "running servers");
    await page.close();
  }
});

test("nothing in the page moves while numbers change", async () => {
  for (const width of [1360, 390]) {
    // All of the page is in view: what moves out of sight is not counted.
    const page = await browser.open({ lesson: "3d", width, height: 3200 });
    await play(page);
    assertEquals(await page.evaluate("shifts"), []);
    assert(
      await page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth",
      ),
      `the page is wider than ${width} pixels`,
    );
    await page.close();
  }
});

test("the page and its scripts report no error", () => {
  assertEquals(browser.complaints, []);
  return Promise.resolve();
});

async function examine(page: Page, where: string): Promise<void> {
  const violations = await page.evaluate(
    "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html.slice(0, 160)).join(' | ')))",
  );
  assertEquals(violations, [], where);
}
