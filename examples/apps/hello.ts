// The smallest app: what `deno serve` takes, and every server of ours.
export default {
  fetch(): Response {
    return new Response("Hello, World!\n");
  },
} satisfies Deno.ServeDefaultExport;
