/**
 * The app that the tests of the preforking server serve: each route does one thing, good or bad.
 */
import { getpid } from "../../mod.ts";

const leaked: Uint8Array[] = [];

export default {
  async fetch(request: Request, info: Deno.ServeHandlerInfo): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const number = (name: string) => Number(searchParams.get(name));
    switch (pathname) {
      case "/":
        return new Response("Hello, World!\n");
      case "/pid":
        return new Response(`${getpid()}`);
      case "/addr":
        return Response.json(info.remoteAddr);
      case "/url":
        return new Response(request.url);
      case "/uuid":
        return new Response(Array.from({ length: 100 }, () => crypto.randomUUID()).join("\n"));
      case "/sleep":
        await new Promise((resolve) => setTimeout(resolve, number("ms")));
        return new Response(`${getpid()}`);
      case "/stream":
        return new Response(pieces(number("count"), number("ms")));
      case "/echo":
        return new Response(request.body);
      case "/text":
        return new Response(await request.text());
      case "/transform": // having asked a database, say
        await new Promise((resolve) => setTimeout(resolve, 5));
        return new Response(request.body?.pipeThrough(new TransformStream()) ?? null);
      case "/upload": {
        let bytes = 0;
        for await (const chunk of request.body ?? []) bytes += chunk.length;
        return new Response(`${bytes}`);
      }
      case "/ws": {
        const { socket, response } = Deno.upgradeWebSocket(request);
        socket.addEventListener("message", ({ data }) => socket.send(`${getpid()} ${data}`));
        return response;
      }
      case "/command": // a subprocess of the app, as the kernel sees it
        return new Response(
          (await new Deno.Command("sh", { args: ["-c", searchParams.get("run")!] }).output())
            .stdout,
        );
      case "/leak":
        leaked.push(new Uint8Array(number("mb") * 1e6).fill(1));
        return new Response(`${getpid()}`);
      case "/spin":
        for (;;);
      case "/throw":
        throw new Error("thrown by the handler");
      case "/reject-later":
        setTimeout(() => Promise.reject(new Error("rejected later")), 0);
        return new Response();
      case "/exit":
        return Deno.exit(3);
      case "/oom":
        for (const arrays: unknown[] = [];;) arrays.push(new Array(100_000).fill({}));
      case "/crash":
        // A read from memory that is not mapped.
        return new Response(
          `${new Deno.UnsafePointerView(Deno.UnsafePointer.create(8n)!).getInt8()}`,
        );
      default:
        return new Response("no such route", { status: 404 });
    }
  },
};

function pieces(count: number, ms: number): ReadableStream<Uint8Array> {
  let left = count;
  return new ReadableStream({
    async pull(controller): Promise<void> {
      if (left-- === 0) return controller.close();
      await new Promise((resolve) => setTimeout(resolve, ms));
      controller.enqueue(new TextEncoder().encode(`${getpid()}\n`));
    },
  });
}
