import { assert, assertEquals } from "@std/assert";
import { interceptBody, receivedBody } from "../ffi/runtime/http_internals.ts";
import { within } from "./support.ts";

/** Has Deno's server receive a request with a body of ten bytes, in two pieces. */
async function receive(
  handle: (request: Request) => Promise<unknown>,
  pieces: [string, string] = ["half ", "a body"],
): Promise<void> {
  const handled = Promise.withResolvers<void>();
  await using server = Deno.serve({ port: 0, onListen() {} }, async (request) => {
    const result = handle(request);
    rest.resolve();
    await result.then(() => handled.resolve(), handled.reject);
    return new Response();
  });
  const rest = Promise.withResolvers<void>();
  using client = await Deno.connect({ port: server.addr.port });
  const [first, second] = pieces.map((piece) => new TextEncoder().encode(piece));
  const length = first!.length + second!.length;
  await client.write(
    new TextEncoder().encode(
      `POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: ${length}\r\n\r\n${
        pieces[0]
      }`,
    ),
  );
  await within(rest.promise, 15_000, "the request");
  await client.write(second!);
  await within(handled.promise, 15_000, "the handler");
}

Deno.test("interceptBody() keeps Deno's way to read a whole body, and intercepts all others", async () => {
  const ways: Record<string, (request: Request) => Promise<string>> = {
    whole: (request) => request.text(),
    "whole, by its prototype": (request) => Request.prototype.text.call(request),
    stream: (request) => new Response(request.body).text(),
    "stream, then whole": (request) => (request.body, request.text()),
    clone: (request) => request.clone().text(),
    cloned: (request) => (request.clone(), request.text()),
    copy: (request) => new Request(request).text(),
  };
  for (const [name, read] of Object.entries(ways)) {
    const calls: string[] = [];
    await receive(async (request) => {
      const body = interceptBody(request, {
        stream(body) {
          calls.push("stream");
          return body.pipeThrough(new TransformStream());
        },
        whole(result) {
          calls.push("whole");
          return result;
        },
      });
      assert(body !== undefined);
      assertEquals(await read(request), "half a body", name);
      assertEquals(request.bodyUsed, name !== "clone", name);
    });
    assertEquals(calls, [name.startsWith("whole") ? "whole" : "stream"], name);
  }
});

Deno.test("interceptBody() does not change a body that has arrived completely, or a missing one", async () => {
  const reads = { stream: (body: ReadableStream<Uint8Array<ArrayBuffer>>) => body };
  await receive(async (request) => {
    assertEquals(receivedBody(request), new TextEncoder().encode("all of it"));
    assertEquals(interceptBody(request, reads), undefined);
    assertEquals(await request.text(), "all of it");
  }, ["all of it", ""]);
  assertEquals(receivedBody(new Request("http://test/")), undefined);
  assertEquals(interceptBody(new Request("http://test/"), reads), undefined);
});
