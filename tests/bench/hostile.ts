// An app that does what no app should. hostility.ts looks at how the other clients fare.
function neverReturns(): never {
  for (;;);
}

function exhaustsHeap(): never {
  const hoard = [];
  for (;;) hoard.push(new Array(1000).fill(0.5));
}

// SIGSEGV from kill() would not do: V8 has a handler for it, which lets the first one pass.
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
