/** What an app sees of a request and its body, and how reading it incorrectly fails. */

type Body = ReadableStream<Uint8Array<ArrayBuffer>>;

/** Returns the result of a function, or how it failed. */
function attempt(action: () => unknown): string {
  try {
    return describe(action());
  } catch (error) {
    return failure("throws", error);
  }
}

/** Returns the result of a promise, or how it was rejected. */
async function settle(action: () => Promise<unknown>): Promise<string> {
  try {
    return describe(await action());
  } catch (error) {
    return failure("rejects", error);
  }
}

function describe(value: unknown): string {
  return typeof value === "object" ? Deno.inspect(value) : `${value}`;
}

function failure(how: string, error: unknown): string {
  const { name, message, constructor } = error as Error;
  return `${how} ${constructor.name} ${name}: ${message}`;
}

async function textOf(stream: Body): Promise<string> {
  return (await Array.fromAsync(stream.pipeThrough(new TextDecoderStream()))).join("");
}

/** Reads to the end, since Deno otherwise keeps the connection open. Returns the byte count. */
async function readOn(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<number> {
  for (let bytes = 0;;) {
    const { done, value } = await reader.read();
    if (done) return bytes;
    bytes += value.byteLength;
  }
}

/** Ways to read a request. Each returns what it found. */
const WAYS: Record<string, (request: Request) => unknown[] | Promise<unknown[]>> = {
  object: (request) => [
    Deno.inspect(request),
    Deno.inspect(request.body),
    request.constructor.name,
    Object.getPrototypeOf(request) === Request.prototype,
    Object.keys(request),
    request.url,
    request.bodyUsed,
    request.body?.locked,
    request.body === request.body,
  ],
  headers: (request) => [
    attempt(() => request.headers.set("a", "b")),
    attempt(() => request.headers.append("a", "b")),
    attempt(() => request.headers.delete("host")),
    [...request.headers],
  ],
  clone: async (request) => {
    const clone = request.clone();
    return [
      Deno.inspect(clone),
      clone.url,
      attempt(() => clone.headers.set("a", "b")),
      request.bodyUsed,
      await settle(() => Promise.all([clone.text(), request.text()])),
      request.bodyUsed,
      attempt(() => request.clone()),
    ];
  },
  copy: async (request) => {
    const copy = new Request(request);
    return [
      Deno.inspect(copy),
      copy.url,
      request.bodyUsed,
      await settle(() => copy.text()),
      await settle(() => request.text()),
      request.body === null || attempt(() => new Request(request)),
    ];
  },
  twice: async (request) => [
    await settle(() => request.text()),
    request.bodyUsed,
    await settle(() => request.text()),
    await settle(() => request.json()),
    await settle(() => request.arrayBuffer()),
    await settle(() => request.blob()),
    await settle(() => request.formData()),
    attempt(() => request.clone()),
    attempt(() => request.body?.locked),
    attempt(() => request.body?.getReader()),
    attempt(() => new Response(request.body)),
  ],
  "at once": async (request) => {
    const first = settle(() => request.text());
    const locked = attempt(() => request.body?.locked);
    return [locked, await settle(() => request.text()), await first];
  },
  "locked by a reader": async (request) => {
    const reader = request.body!.getReader();
    return [
      request.body!.locked,
      request.bodyUsed,
      await settle(() => request.text()),
      await settle(() => request.json()),
      attempt(() => request.clone()),
      attempt(() => new Request(request)),
      attempt(() => request.body!.tee()),
      await settle(() => request.body!.cancel()),
      request.bodyUsed,
      await settle(async () => (await readOn(reader)) > 0),
      request.bodyUsed,
    ];
  },
  "read in part": async (request) => {
    const reader = request.body!.getReader();
    await reader.read();
    reader.releaseLock();
    return [
      request.bodyUsed,
      request.body!.locked,
      await settle(() => request.text()),
      attempt(() => request.clone()),
      attempt(() => new Request(request)),
      (await readOn(request.body!.getReader())) >= 0,
    ];
  },
  released: async (request) => {
    request.body!.getReader().releaseLock();
    return [request.bodyUsed, request.body!.locked, await settle(() => request.text())];
  },
  canceled: async (request) => [
    await settle(() => request.body!.cancel("why")),
    request.bodyUsed,
    request.body!.locked,
    await settle(() => request.text()),
  ],
  teed: async (request) => {
    const [one, other] = request.body!.tee();
    return [
      request.bodyUsed,
      request.body!.locked,
      await settle(() => Promise.all([one, other].map(textOf))),
      await settle(() => request.text()),
    ];
  },
  "not JSON": async (request) => [
    await settle(() => request.json()),
    request.bodyUsed,
    await settle(() => request.json()),
  ],
  "not a form": async (request) => [
    await settle(() => request.formData()),
    request.bodyUsed,
    await settle(() => request.text()),
  ],
};

/** Reads a request in the way that one of its fields names. */
export async function examine(request: Request): Promise<Response> {
  const way = WAYS[request.headers.get("x-way")!]!;
  // After waiting, a handler may find more of the body than arrived with the header.
  if (request.headers.has("x-wait")) await new Promise((resolve) => setTimeout(resolve, 20));
  return Response.json(await way(request));
}
