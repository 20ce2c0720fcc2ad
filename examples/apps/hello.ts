// The smallest app. `deno serve` and all of tine's servers can run it.
export default {
  fetch(): Response {
    return new Response("Hello, World!\n");
  },
} satisfies Deno.ServeDefaultExport;
