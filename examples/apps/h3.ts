// The same kind of app on h3, the router of Nuxt and Nitro: https://h3.dev
//
//   deno run -A server/cli.ts serve examples/apps/h3.ts
import { H3, html, HTTPError } from "npm:h3@2";

const app = new H3();

app.get("/", () =>
  html`
    <!doctype html>
    <meta charset="utf-8">
    <title>h3 on tine</title>
    <h1>h3 on tine</h1>
    <p>Process ${Deno.pid} has answered you. Try:</p>
    <ul>
      <li><a href="/hello/you">/hello/you</a>: a parameter in the path, JSON in return
      <li><a href="/slow/2">/slow/2</a>: an asynchronous handler that takes two seconds
      <li><a href="/stream">/stream</a>: a response that comes line by line
      <li><a href="/teapot">/teapot</a>: an error with a status of its own
      <li><code>curl -d '[1, 2, 3]' .../sum</code>: adds numbers up
    </ul>
  `);

app.get("/hello/:name", (event) => ({ hello: event.context.params?.name }));

app.get("/slow/:seconds", async (event) => {
  const seconds = Math.min(60, Number(event.context.params?.seconds) || 0);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return { slept: seconds };
});

app.get("/stream", () =>
  new ReadableStream({
    async start(controller): Promise<void> {
      for (let line = 1; line <= 5; line++) {
        controller.enqueue(new TextEncoder().encode(`line ${line}\n`));
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      controller.close();
    },
  }));

app.get("/teapot", () => {
  throw new HTTPError({ status: 418, message: "This is a teapot" });
});

app.post("/sum", async (event) => {
  const numbers = await event.req.json() as number[];
  return { sum: numbers.reduce((sum, number) => sum + number, 0) };
});

export default app;
