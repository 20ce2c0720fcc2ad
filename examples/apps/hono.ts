// An app on Hono, the most common router for fetch apps: https://hono.dev
//
// It does not depend on processes, and runs unchanged under `deno serve` and on every rung:
//
//   deno run -A server/cli.ts serve examples/apps/hono.ts
//   deno run -A examples/part3/webserver3h.ts examples/apps/hono.ts
import { Hono } from "npm:hono@4";
import { stream } from "npm:hono@4/streaming";

interface Note {
  readonly id: string;
  readonly text: string;
}

// In the memory of one process: another process that answers the next request has its own.
const notes = new Map<string, Note>();

const app = new Hono();

app.get("/", (context) =>
  context.html(`<!doctype html>
<meta charset="utf-8">
<title>Hono on tine</title>
<h1>Hono on tine</h1>
<p>Process ${Deno.pid} has answered you. Try:</p>
<ul>
  <li><a href="/hello/you">/hello/you</a>: a parameter in the path, JSON in return
  <li><a href="/slow/2">/slow/2</a>: an asynchronous handler that takes two seconds
  <li><a href="/stream">/stream</a>: a response that comes line by line
  <li><a href="/static/index.html">/static/index.html</a>: a file
  <li><a href="/who">/who</a>: who asks, and which process answers
  <li><code>curl -d '{"text":"milk"}' -H 'content-type: application/json'
    ${new URL("/notes", context.req.url)}</code>: posts a note
</ul>
`));

app.get("/hello/:name", (context) => context.json({ hello: context.req.param("name") }));

app.get("/slow/:seconds", async (context) => {
  const seconds = Math.min(60, Number(context.req.param("seconds")) || 0);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return context.json({ slept: seconds });
});

app.get("/stream", (context) => {
  context.header("content-type", "text/plain");
  return stream(context, async (output) => {
    for (let line = 1; line <= 5; line++) {
      await output.write(`line ${line}\n`);
      await output.sleep(200);
    }
  });
});

// Hono passes the server's information about the request on as its environment.
app.get("/who", (context) => {
  const { remoteAddr } = context.env as Deno.ServeHandlerInfo;
  return context.json({ client: remoteAddr, pid: Deno.pid });
});

app.post("/notes", async (context) => {
  const { text } = await context.req.json<{ text: string }>();
  const note = { id: crypto.randomUUID(), text };
  notes.set(note.id, note);
  return context.json(note, 201);
});

app.get("/notes/:id", (context) => {
  const note = notes.get(context.req.param("id"));
  return note === undefined ? context.notFound() : context.json(note);
});

const TYPES: Record<string, string> = { html: "text/html", css: "text/css" };

// The folder next to this file: on disk, or where the program was imported from.
app.get("/static/:file{[a-z]+[.][a-z]+}", async (context) => {
  const file = context.req.param("file");
  const found = await fetch(new URL(`static/${file}`, import.meta.url)).catch(() => undefined);
  if (!found?.ok) return context.notFound();
  const type = TYPES[file.split(".")[1]!] ?? "application/octet-stream";
  return new Response(found.body, { headers: { "content-type": type } });
});

export default app;
