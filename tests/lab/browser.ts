/** A lab, and a real browser that looks at it: Debian's Chromium, driven by playwright-core. */
import { type Browser, chromium, type Page } from "npm:playwright-core@1.65.1";
import { DENO, Program, ROOT, until } from "../support.ts";

export type { Page };

/** Where Chromium is; `undefined` if it is not installed. */
export const CHROMIUM: string | undefined = ["/usr/bin/chromium", "/usr/bin/google-chrome"].find(
  (path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  },
);

/** How a page is looked at. */
export interface Look {
  readonly width?: number;
  readonly height?: number;
  readonly scheme?: "light" | "dark";
  /** The lesson that is chosen, or none. */
  readonly lesson?: string;
}

/** A running lab and a browser. Disposing of it ends both, and all that was started. */
export class LabInBrowser implements AsyncDisposable {
  readonly lab: Program;
  readonly url: string;
  readonly #browser: Browser;
  /** What the pages' consoles have said, and their errors. */
  readonly complaints: string[] = [];

  private constructor(lab: Program, url: string, browser: Browser) {
    this.lab = lab;
    this.url = url;
    this.#browser = browser;
  }

  /** Starts both. */
  static async start(): Promise<LabInBrowser> {
    const lab = new Program(DENO, [
      "run",
      "--no-lock",
      "--allow-all",
      new URL("examples/lab/web.ts", ROOT).pathname,
      "--port",
      "0",
    ]);
    try {
      const [url] = await lab.printed(/http:\S+:\d+\//, 60_000);
      const browser = await chromium.launch({
        executablePath: CHROMIUM!,
        // As root, and in containers with a small /dev/shm.
        args: ["--no-sandbox", "--disable-dev-shm-usage"],
      });
      return new LabInBrowser(lab, url!, browser);
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Opens the page as a reader of its own. */
  async open(look: Look = {}): Promise<Page> {
    const context = await this.#browser.newContext({
      viewport: { width: look.width ?? 1360, height: look.height ?? 900 },
      colorScheme: look.scheme ?? "light",
      reducedMotion: "reduce",
    });
    const page = await context.newPage();
    page.on("console", (message) => {
      if (message.type() !== "info") this.complaints.push(message.text());
    });
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    await page.addInitScript(OBSERVE_SHIFTS);
    await page.goto(`${this.url}#${look.lesson ?? ""}`);
    await page.waitForSelector("main:not(.loading)", { timeout: 30_000 });
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
    this.lab.kill("SIGTERM");
    await this.lab.ended().catch(() => {});
    await this.lab[Symbol.asyncDispose]();
  }
}

/** Collects what moved without a reader having done something. */
const OBSERVE_SHIFTS = `
  globalThis.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (!entry.hadRecentInput) shifts.push(entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName).join(" "));
    }
  }).observe({ type: "layout-shift", buffered: true });
`;

/** Starts a program in the view "Your own". Returns its pid. */
export async function startProgram(
  page: Page,
  file: string,
  args: Record<string, number> = {},
): Promise<number> {
  await page.click("[data-view=own]");
  await page.selectOption("#program", file);
  for (const [name, value] of Object.entries(args)) {
    await page.fill(`#arguments [name=${name}]`, String(value));
  }
  await page.click("#start-form button");
  return await until(
    async () => Number(await page.inputValue("#server")) || false,
    `${file} to listen`,
    30_000,
  );
}

/** The values of an attribute in the picture. */
export function drawn(page: Page, selector: string, attribute: string): Promise<string[]> {
  return page.locator(`#view ${selector}`).evaluateAll(
    (elements, name) =>
      elements.map((element) =>
        (element as unknown as { getAttribute(name: string): string }).getAttribute(name)
      ),
    attribute,
  );
}

/** Plays the chosen lesson to its end. Returns whether its verdict is that all is as expected. */
export async function play(page: Page): Promise<boolean> {
  await page.uncheck("#steps");
  await page.click("#play");
  await page.waitForSelector("#verdict.holds, #verdict.differs", { timeout: 60_000 });
  await page.waitForSelector("#play:not([disabled])", { timeout: 30_000 });
  return await page.locator("#verdict.holds").count() === 1;
}
