/** What the status page of an admin socket must be, wherever its code comes from. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Status } from "../server/prefork/status/status.ts";
import { readAll, within } from "./support.ts";

/** A response: its headers and its body. */
export interface Response {
  readonly head: string;
  readonly body: string;
}

/** Asks an admin socket for a page, as a browser does. */
export async function askAsBrowser(
  address: Deno.ConnectOptions | string,
  { path = "/", host = "localhost" } = {},
): Promise<Response> {
  const connection = typeof address === "string"
    ? await Deno.connect({ transport: "unix", path: address })
    : await Deno.connect(address);
  try {
    const request = `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n` +
      "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\r\n";
    await connection.write(new TextEncoder().encode(request));
    const reply = await within(readAll(connection), 15_000, `the answer to ${path}`);
    const [head, ...rest] = reply.split("\r\n\r\n");
    return { head: head!, body: rest.join("\r\n\r\n") };
  } finally {
    connection.close();
  }
}

/**
 * Checks that a response is a whole page that runs nothing but its own script.
 *
 * @returns The status that it contains.
 */
export async function checkPage({ head, body }: Response): Promise<Status> {
  assertMatch(head, /^HTTP\/1\.1 200 OK\r\n/);
  assertMatch(head, /^content-type: text\/html; charset=utf-8$/m);
  assertMatch(head, /^cache-control: no-store$/m);
  assertMatch(head, /^x-content-type-options: nosniff$/m);
  assertMatch(head, /^vary: accept$/m);
  const policy = head.match(/^content-security-policy: (.*)$/m)![1]!.trim().split("; ");
  const [script, style] = [
    between(body, "<script>", "</script>"),
    between(body, "<style>", "</style>"),
  ];
  assertEquals(policy, [
    "default-src 'none'",
    `script-src '${await hashOf(script)}'`,
    `style-src '${await hashOf(style)}'`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]);
  // One with the code, one with the data, which is not run.
  assertEquals(body.match(/<\/?script\b/gi)?.length, 4, body);
  const data = between(body, '<script type="application/json" id="status">', "</script>");
  assert(!data.includes("<"), data);
  // Whatever the page shows or loads comes from the socket itself.
  const markup = body.replace(data, "").replace(script, "").replace(style, "");
  assertEquals(markup.match(/\b(?:src|href)="[^"]*"/g), [
    'href="data:,"',
    'href="status.json"',
    'href="metrics"',
    'href="healthz"',
  ]);
  assertEquals(markup.match(/\s(?:on\w+|style)=/g), null);
  assertEquals(style.match(/@import|url\(/g), null);
  return JSON.parse(data);
}

function between(text: string, start: string, end: string): string {
  const parts = text.split(start);
  assertEquals(parts.length, 2, `There is not one ${start}`);
  return parts[1]!.split(end)[0]!;
}

async function hashOf(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `sha256-${btoa(String.fromCharCode(...new Uint8Array(hash)))}`;
}
