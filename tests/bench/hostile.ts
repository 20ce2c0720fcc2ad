// An app that does what no app should do. isolation.ts measures what it costs other clients.
function neverReturns(): never {
  for (;;);
}

function exhaustsHeap(): never {
  const hoard = [];
  for (;;) hoard.push(new Array(1000).fill(0.5));
}

// A SIGSEGV from kill() is not enough: V8 has a handler, which ignores the first one.
function readsWhereNothingIs(): never {
  new Deno.UnsafePointerView(Deno.UnsafePointer.create(8n)!).getUint8();
  throw new Error("Something is there");
}

export default {
  fetch(request: Request): Response {
    switch (new URL(request.url).pathname) {
      case "/throw":
        throw new Error("thrown on purpose");
      case "/exit":
        return Deno.exit(3);
      case "/crash":
        return readsWhereNothingIs();
      case "/heap":
        return exhaustsHeap();
      case "/hang":
        return neverReturns();
    }
    return new Response("Hello, World!\n");
  },
} satisfies Deno.ServeDefaultExport;
