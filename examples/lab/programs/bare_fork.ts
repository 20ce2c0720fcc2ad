// Two children of a bare fork(2) that draw random numbers
//
// The generators are memory like any other: each child has a copy of their state, and draws what
// its sibling draws. Each writes what it has drawn to a file, which is named 1 or 2.
//
//   deno run -A --v8-flags=--single-threaded bare_fork.ts [folder]

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  fork: { parameters: [], result: "i32" },
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  _exit: { parameters: ["i32"], result: "void" },
  madvise: { parameters: ["usize", "usize", "i32"], result: "i32" },
});
const MADV_DOFORK = 11;

const [folder = "."] = Deno.args;

function draw(): Uint8Array<ArrayBuffer> {
  const number = new Uint8Array(new Float64Array([Math.random()]).buffer);
  return new Uint8Array([...number, ...crypto.getRandomValues(new Uint8Array(16))]);
}

draw(); // as every program has done before

for (const child of ["1", "2"]) {
  // V8 has its heap kept from children, which die without it.
  libc.madvise(0n, 0x7fff_ffff_f000n, MADV_DOFORK);
  const pid = libc.fork();
  if (pid === 0) { // child
    Deno.writeFileSync(`${folder}/${child}`, draw());
    libc._exit(0);
  }
  libc.waitpid(pid, null, 0);
}
