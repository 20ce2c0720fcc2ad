/** The app of the conformance suite: its responses show the request. */
import { examine } from "./request_object.ts";

const encoder = new TextEncoder();

function inParts(parts: string[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    async start(controller): Promise<void> {
      for (const part of parts) {
        // A turn of the event loop makes each one a separate chunk.
        await new Promise((resolve) => setTimeout(resolve, 10));
        controller.enqueue(encoder.encode(part));
      }
      controller.close();
    },
  });
}

async function describe(request: Request): Promise<Response> {
  const body = request.body === null ? null : await request.text();
  return Response.json({
    method: request.method,
    url: request.url,
    headers: Object.fromEntries(request.headers),
    body,
  });
}

export default {
  fetch(request: Request): Response | Promise<Response> {
    // A client may send an invalid URL.
    const pathname = URL.parse(request.url)?.pathname ?? "/object";
    switch (pathname) {
      case "/hello":
        return new Response("Hello, World!\n");
      case "/late":
        return new Promise((resolve) => setTimeout(resolve, 20, new Response("late\n")));
      case "/echo":
        return new Response(request.body);
      case "/parts":
        return new Response(inParts(["one\n", "two\n", "three\n"]));
      case "/sized":
        return new Response(inParts(["12345", "67890"]), { headers: { "content-length": "10" } });
      case "/unread":
        return new Response("not read\n", { status: 403 });
      case "/empty":
        return new Response();
      case "/204":
      case "/304":
        return new Response(null, { status: Number(pathname.slice(1)), headers: { etag: '"a"' } });
      case "/close":
        return new Response("last\n", { headers: { connection: "close" } });
      case "/cookies":
        return new Response("", { headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"]] });
      case "/throw":
        throw new Error("as the suite wants it");
      case "/gzip":
        return new Response("compressible ".repeat(20));
      case "/range":
        return new Response("234", {
          status: 206,
          headers: { "content-range": "bytes 2-4/10", "x-asked": request.headers.get("range")! },
        });
      case "/object":
        return examine(request);
      case "/upgrade": {
        const { socket, response } = Deno.upgradeWebSocket(request);
        socket.onmessage = ({ data }) => socket.send(`echo ${data}`);
        return response;
      }
      default:
        return describe(request);
    }
  },
} satisfies Deno.ServeDefaultExport;
