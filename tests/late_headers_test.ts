import { assertEquals, assertMatch } from "@std/assert";
import { isSyscallError } from "../ffi/errno.ts";
import { watchedDescriptors } from "../ffi/runtime/event_loop.ts";
import { getpeername } from "../ffi/socket_calls.ts";
import { lateHeaders } from "../server/prefork/worker/late_headers.ts";
import { readAll, until, within } from "./support.ts";

interface Connection {
  readonly fd: number;
  readonly client: string;
}

/** The server's end of a client's connection; `undefined` if Deno has none. */
function serversEnd({ localAddr }: Deno.Conn): Connection | undefined {
  const { hostname, port } = localAddr as Deno.NetAddr;
  const found = watchedDescriptors().find(({ fd }) => {
    try {
      const [host, peer] = getpeername(fd);
      return host === hostname && peer === port;
    } catch (error) {
      if (isSyscallError(error)) return false;
      throw error;
    }
  });
  return found && { fd: found.fd, client: `${hostname}:${port}` };
}

/** What a client gets that sends something and is then taken for late. */
async function answerTo(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const late = lateHeaders();
  let begun = 0;
  const [sleeping, wake] = [Promise.withResolvers<void>(), () => sleeping.resolve()];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (_, info) => {
    begun++;
    await sleeping.promise;
    const { hostname, port } = info.remoteAddr as Deno.NetAddr;
    late.requested(`${hostname}:${port}`);
    return new Response("the app's answer");
  });
  using client = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
  await client.write(bytes);
  const isRequest = new TextDecoder().decode(bytes).endsWith("\r\n\r\n");
  await until(() => isRequest ? begun > 0 : serversEnd(client) !== undefined, "the connection");
  const connection = serversEnd(client)!;
  // As if the request were still on its way to the app.
  assertEquals(late.add(connection), true);
  const text = within(readAll(client), 15_000, "the end of the connection");
  const isOpen = (one: { fd: number }): one is Connection => serversEnd(client)?.fd === one.fd;
  wake();
  await until(() => {
    late.decide(isOpen);
    return late.size === 0;
  }, "the decision");
  try {
    return await text;
  } finally {
    late.close();
    await server.shutdown();
  }
}

const encoder = new TextEncoder();

Deno.test("lateHeaders() answers half a header with 408", async () => {
  const text = await answerTo(encoder.encode("GET / HTTP/1.1\r\nHost: te"));
  assertMatch(text, /^HTTP\/1\.1 408 Request Timeout\r\n[^]*connection: close\r\n\r\n$/);
});

Deno.test("lateHeaders() leaves a request that the app gets to the app", async () => {
  const text = await answerTo(encoder.encode("GET / HTTP/1.1\r\nHost: test\r\n\r\n"));
  assertMatch(text, /^$|^HTTP\/1\.1 200 OK\r\n[^]*the app's answer$/);
});

Deno.test("lateHeaders() ends HTTP/2 without a word of HTTP/1.1", async () => {
  const preface = encoder.encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const text = await answerTo(Uint8Array.from([...preface, 0, 0, 0, 4, 0, 0, 0, 0, 0])); // SETTINGS
  assertEquals(text.includes("HTTP/1.1"), false, text);
});
