// An app with a handler that waits and one that never returns
//
//   deno run -A server/cli.ts serve examples/lab/programs/handlers.ts --workers 3 --timeout 2
//   curl localhost:8000/            # answers
//   curl localhost:8000/wait/60     # answers after 60 seconds; the worker answers others meanwhile
//   curl localhost:8000/loop        # never answers, nor does its worker answer anybody else

function wait(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

export default {
  async fetch(request: Request): Promise<Response> {
    const [, action, seconds] = new URL(request.url).pathname.split("/");
    if (action === "wait") await wait(Number(seconds));
    if (action === "loop") { for (;;); }
    return new Response("Hello, World!\n");
  },
} satisfies Deno.ServeDefaultExport;
