/** The example apps, each on every rung. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { onEachRung } from "./rungs.ts";
import { portOf, type Program, ROOT, start, startServer, until, within } from "./support.ts";

type Start = (app: string) => Promise<{ server: Program; url: string }>;

const RUNGS: Readonly<Record<string, Start>> = {
  iterative: (app) => startProgram("tests/conformance/serve.ts", "iterative", app),
  forking: (app) => startProgram("tests/conformance/serve.ts", "forking", app),
  "webserver3h.ts": (app) => startProgram("examples/part3/webserver3h.ts", app, "0"),
  prefork: async (app) => {
    const server = await startServer([], { app });
    return { server, url: `http://127.0.0.1:${server.port}` };
  },
};

async function startProgram(file: string, ...args: string[]) {
  const server = start(file, args, { flags: ["-A"] });
  return { server, url: `http://127.0.0.1:${await portOf(server)}` };
}

const path = (app: string) => new URL(`examples/apps/${app}`, ROOT).pathname;

onEachRung(RUNGS, "hello.ts runs", async (start) => {
  const { server, url } = await start(path("hello.ts"));
  await using _ = server;
  await using client = newClient();
  assertEquals(await (await client.ask(url)).text(), "Hello, World!\n");
});

onEachRung(RUNGS, "hono.ts routes, streams, waits and serves files", async (start) => {
  const { server, url } = await start(path("hono.ts"));
  await using _ = server;
  await using client = newClient();
  assertStringIncludes(await (await client.ask(`${url}/`)).text(), "Try:");
  assertEquals(await (await client.ask(`${url}/hello/you`)).json(), { hello: "you" });
  assertEquals(await (await client.ask(`${url}/slow/0.1`)).json(), { slept: 0.1 });
  assertEquals((await client.ask(`${url}/nowhere`)).status, 404);
  const who = await (await client.ask(`${url}/who`)).json();
  assertEquals(who.client.hostname, "127.0.0.1");

  const note = await client.ask(`${url}/notes`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ text: "milk" }),
  });
  assertEquals(note.status, 201);
  assertMatch((await note.json()).id, /^[0-9a-f-]{36}$/);

  const page = await client.ask(`${url}/static/index.html`);
  assertEquals(page.headers.get("content-type"), "text/html");
  assertEquals(
    await page.text(),
    await Deno.readTextFile(new URL("examples/apps/static/index.html", ROOT)),
  );
  assertEquals((await client.ask(`${url}/static/none.css`)).status, 404);

  await assertComesInParts(await client.ask(`${url}/stream`));
});

onEachRung(RUNGS, "h3.ts routes, streams, waits and fails", async (start) => {
  const { server, url } = await start(path("h3.ts"));
  await using _ = server;
  await using client = newClient();
  assertStringIncludes(await (await client.ask(`${url}/`)).text(), "Try:");
  assertEquals(await (await client.ask(`${url}/hello/you`)).json(), { hello: "you" });
  assertEquals(await (await client.ask(`${url}/slow/0.1`)).json(), { slept: 0.1 });
  assertEquals((await client.ask(`${url}/teapot`)).status, 418);
  const sum = await client.ask(`${url}/sum`, { method: "POST", body: "[1,2,3]" });
  assertEquals(await sum.json(), { sum: 6 });
  await assertComesInParts(await client.ask(`${url}/stream`));
});

onEachRung(RUNGS, "websocket.ts echoes", async (start) => {
  const { server, url } = await start(path("websocket.ts"));
  await using _ = server;
  {
    await using client = newClient();
    assertStringIncludes(await (await client.ask(url)).text(), "new WebSocket");
  }
  const socket = new WebSocket(url.replace("http", "ws"));
  await within(new Promise((resolve) => socket.onopen = resolve), 15_000, "the upgrade");
  let heard: unknown;
  socket.onmessage = ({ data }) => heard = data;
  socket.send("hello");
  await until(() => heard === "hello", "the echo");
  const closed = new Promise((resolve) => socket.onclose = resolve);
  socket.close();
  await within(closed, 15_000, "the end");
});

/** A client whose connections end with it: the iterative rung serves one at a time. */
function newClient() {
  const client = Deno.createHttpClient({ poolMaxIdlePerHost: 1 });
  const responses: Response[] = [];
  return {
    async ask(url: string, init: RequestInit = {}): Promise<Response> {
      // One after the other, as the iterative rung will have it.
      for (const response of responses) if (!response.bodyUsed) await response.body?.cancel();
      const signal = AbortSignal.timeout(15_000);
      const response = await fetch(url, { ...init, client, signal });
      responses.push(response);
      return response;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      for (const response of responses) if (!response.bodyUsed) await response.body?.cancel();
      client.close();
    },
  };
}

async function assertComesInParts(response: Response): Promise<void> {
  const parts: string[] = [];
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) parts.push(part);
  assertEquals(parts.join(""), "line 1\nline 2\nline 3\nline 4\nline 5\n");
  assertEquals(parts.length > 1, true);
}
