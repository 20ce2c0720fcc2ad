// The smallest app. hello.py and hello.ru are the same.
export default { fetch: () => new Response("Hello, World!\n") } satisfies Deno.ServeDefaultExport;
