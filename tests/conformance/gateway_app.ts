/** The app of the gateway's tests. */
const encoder = new TextEncoder();
const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export function onWorkerStart(worker: { pid: number; number: number }): void {
  console.log(`start ${worker.pid} ${worker.number}`);
}

export default {
  /** Called as a method of this object. */
  name: "the gateway's app",

  onListen(address: Deno.Addr): void {
    console.log(`listening ${JSON.stringify(address)}`);
  },

  async onWorkerStop(worker: { pid: number }): Promise<void> {
    await sleep(Number(Deno.env.get("STOP_SECONDS") ?? 0));
    console.log(`stop ${worker.pid}`);
  },

  async fetch(request: Request, info: Deno.ServeHandlerInfo): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const seconds = Number(search.slice(1));
    switch (pathname) {
      case "/who":
        return Response.json({ pid: Deno.pid, url: request.url, addr: info.remoteAddr });
      case "/echo":
        return new Response(request.body);
      case "/length":
        console.log("length begins");
        return new Response(`${(await request.bytes()).length} bytes\n`);
      case "/flood":
        return new Response(
          new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(100_000)) }),
        );
      case "/slow":
        console.log("slow begins");
        await sleep(seconds);
        console.log("slow is over");
        return new Response(`slept ${seconds}\n`);
      case "/never":
        return await new Promise(() => {});
      case "/loop":
        for (;;);
      case "/throw":
        throw new Error("thrown by the handler");
      case "/exit":
        return Deno.exit(3);
      case "/endless":
        return new Response(
          new ReadableStream({
            async pull(controller): Promise<void> {
              await sleep(0.01);
              controller.enqueue(encoder.encode("and on\n"));
            },
            cancel: () => console.log("cancelled"),
          }),
        );
      case "/websocket": {
        const { socket, response } = Deno.upgradeWebSocket(request);
        socket.onmessage = ({ data }) => socket.send(`echo ${data}`);
        return response;
      }
      case "/command":
        return new Response(
          (await new Deno.Command("echo", { args: ["from echo"] }).output()).stdout,
        );
      case "/file":
        return new Response((await Deno.open(new URL(import.meta.url))).readable);
      default:
        return new Response(`${this.name}\n`);
    }
  },
};
