/** The files of the page. */
import { Refusal } from "./refusal.ts";

const FOLDER = new URL("./page/", import.meta.url);
/** No part of it begins with a dot, so it stays inside the folder. */
const PATH = /^\/(?:[\w-][\w.-]*\/)*[\w-][\w.-]*\.(\w+)$/;
const TYPES: Readonly<Record<string, string>> = {
  css: "text/css; charset=utf-8",
  html: "text/html; charset=utf-8",
  ico: "image/x-icon",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
  png: "image/png",
  svg: "image/svg+xml",
  woff2: "font/woff2",
};

/**
 * Answers a request for a file of the page.
 *
 * @param pathname The URL's path. `/` is `index.html`.
 * @param etag The `If-None-Match` header.
 * @throws {Refusal} With status 404 if there is no such file.
 */
export async function asset(pathname: string, etag: string | null): Promise<Response> {
  const path = pathname === "/" ? "/index.html" : pathname;
  const type = TYPES[path.match(PATH)?.[1] ?? ""];
  const file = new URL(`.${path}`, FOLDER);
  if (type === undefined || !file.href.startsWith(FOLDER.href)) throw missing(pathname);
  try {
    const { mtime, size } = await Deno.stat(file);
    const tag = `W/"${mtime?.getTime()}-${size}"`;
    // Asked again each time: the files belong to a checkout, which a reader may change.
    const headers = { "content-type": type, "cache-control": "no-cache", etag: tag };
    if (etag === tag) return new Response(null, { status: 304, headers });
    return new Response(await Deno.readFile(file), { headers });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw missing(pathname);
    throw error;
  }
}

function missing(pathname: string): Refusal {
  return new Refusal(404, `There is no ${pathname}`);
}
