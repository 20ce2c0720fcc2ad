/**
 * The status as a page for browsers: one document that contains its style and its script. The
 * script asks for `status.json` every two seconds.
 */
import {
  formatDuration,
  formatP99,
  formatPercentiles,
  formatQuantile,
  formatRate,
  quantile,
  since,
} from "../figures.ts";
import type { Status } from "../status.ts";
import { formatAge, formatBytes } from "../table.ts";
import { show } from "./script.js";
import { STYLE } from "./style.ts";

/** What the script calls, and what that calls in turn. A bundler may have given them other names. */
const FUNCTIONS = {
  ...{ formatAge, formatBytes, formatDuration, formatP99, formatPercentiles, formatQuantile },
  ...{ formatRate, quantile, since },
};

const SCRIPT = `"use strict";
${Object.values(FUNCTIONS).join("\n")}
(${show})({ ${
  Object.entries(FUNCTIONS).map(([name, one]) => `${name}: ${one.name}`).join(", ")
} });`;

/** Only this script and this style take effect, whatever markup the page may contain. */
const POLICY = [
  "default-src 'none'",
  `script-src '${await hashOf(SCRIPT)}'`,
  `style-src '${await hashOf(STYLE)}'`,
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** The headers with which the page is sent, in addition to those of all pages. */
export const HEADERS: Readonly<Record<string, string>> = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": POLICY,
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
};

/**
 * Formats the status as a page.
 *
 * @param status The status that it shows first.
 * @returns The document. A policy that fits it is among the {@linkcode HEADERS}.
 */
export function formatPage(status: Status): string {
  // In a script element, which this is, `<` alone could end it or begin a comment.
  const data = JSON.stringify(status).replaceAll("<", "\\u003c");
  return `${HEAD}<script type="application/json" id="status">${data}</script>
<script>${SCRIPT}</script>
${FOOT}`;
}

async function hashOf(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `sha256-${btoa(String.fromCharCode(...new Uint8Array(hash)))}`;
}

const sum = (id: string, title: string) => `<div><dt>${title}</dt><dd id="${id}">-</dd></div>`;

const table = (id: string, title: string, columns: readonly string[]) =>
  `<h2 id="${id}-title">${title}</h2>
<table id="${id}" aria-labelledby="${id}-title">
<thead><tr>${columns.map((column) => `<th scope="col">${column}</th>`).join("")}</tr></thead>
<tbody></tbody>
</table>
`;

const HEAD = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Status</title>
<style>${STYLE}</style>
<header>
  <div><h1 id="app">Status</h1><p id="url">&nbsp;</p></div>
  <button type="button" id="pause" aria-pressed="false">Pause</button>
</header>
<main>
<p id="message" role="status"></p>
<dl class="sums">
${sum("ready", "workers ready")}
${sum("uptime", "up")}
${sum("requests", "requests")}
${sum("errors", "errors")}
${sum("failing", "errors per second")}
${sum("crashes", "crashes")}
${sum("restarts", "restarts")}
${sum("total", "memory in total")}
<div class="wide"><dt>last reload</dt><dd id="reload">-</dd></div>
<div class="wide"><dt>response times <span id="period"></span></dt><dd id="times">-</dd></div>
<div class="wide"><dt>worker starts</dt><dd id="starts">-</dd></div>
</dl>
<p id="reason" hidden></p>
<figure>
  <figcaption>requests per second: <span id="rate">-</span> in four minutes at most:
  <span id="top">-</span></figcaption>
  <svg class="chart" viewBox="0 0 600 60" preserveAspectRatio="none" aria-hidden="true"><path id="rates"/></svg>
</figure>
<h2>Processes</h2>
<ul id="tree"></ul>
${table("listeners", "Listening sockets", ["queue", "dropped", "address"])}
${table("current", "Requests in progress", ["worker", "for", "request"])}
${
  table("slow", "Slowest requests of the last five minutes", [
    ...["worker", "took", "ago", "status", "request"],
  ])
}
</main>
`;

const FOOT = `<footer>
<p>Memory: <span class="key private"></span> private, which only this process has;
<span class="key shared"></span> shared with others, copy-on-write. The total counts it once.</p>
<p>The same for programs: <a href="status.json">status.json</a>, <a href="metrics">metrics</a>,
<a href="healthz">healthz</a>.</p>
<noscript><p>This page needs JavaScript. Without it: <code>tine status</code>, or <code>curl</code>
of this address, for the same as text.</p></noscript>
</footer>
`;
