/**
 * Writes pictures of the lab's page, from real runs: `deno run -A tests/lab/screenshots.ts` writes
 * `docs/lab-*.png`.
 */
import { ROOT } from "../support.ts";
import { CHROMIUM, LabInBrowser, type Look, play } from "./browser.ts";

const LOOKS: readonly (Look & { readonly name: string })[] = [
  { name: "desktop-light", lesson: "3d", scheme: "light" },
  { name: "desktop-dark", lesson: "3f", scheme: "dark" },
  { name: "phone-light", lesson: "3d", width: 390, height: 844, scheme: "light" },
  { name: "phone-dark", lesson: "3f", width: 390, height: 844, scheme: "dark" },
];

if (CHROMIUM === undefined) {
  console.error("There is no Chromium: apt-get install chromium");
  Deno.exit(1);
}
await using browser = await LabInBrowser.start();
for (const look of LOOKS) {
  const page = await browser.open(look);
  if (!await play(page)) throw new Error(`The verdict of ${look.lesson} differs`);
  // On a phone, the picture is what there is to see.
  await page.evaluate(
    `${look.width !== undefined} && document.querySelector("#step").scrollIntoView()`,
  );
  const path = new URL(`docs/lab-${look.name}.png`, ROOT).pathname;
  await page.screenshot({ path });
  await page.close();
  console.log(`docs/lab-${look.name}.png`);
}
