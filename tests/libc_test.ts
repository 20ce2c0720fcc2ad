import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { errno, libc } from "../ffi/libc.ts";
import * as tine from "../mod.ts";
import { run, startFunction } from "./support.ts";

const LIBC = new URL("../ffi/libc.ts", import.meta.url).href;

/** More calls than are made before a call is compiled. */
const OFTEN = 250;

Deno.test("errno() is that of the last call, for the first call and for any later one", () => {
  const EBADF = 9;
  const ENOENT = 2;
  const path = new TextEncoder().encode("/nonexistent\0");
  for (let i = 0; i < OFTEN; i++) {
    const { close, open, readlink } = libc();
    assertEquals([close(-1), errno()], [-1, EBADF], `call ${i}`);
    assertEquals([open(path, 0, 0), errno()], [-1, ENOENT], `call ${i}`);
    assertEquals([close(-1), errno()], [-1, EBADF], `call ${i}`);
    assertEquals([readlink(path, new Uint8Array(9), 9n), errno()], [-1n, ENOENT], `call ${i}`);
  }
});

Deno.test("libc() compiles a function that is called often, with the same results", () => {
  const first = libc().getuid;
  const results = new Set(Array.from({ length: OFTEN }, () => libc().getuid()));
  assertEquals([...results], [Deno.uid()]);
  const compiled = libc().getuid;
  assert(compiled !== first);
  for (let i = 0; i < OFTEN; i++) libc().getuid();
  assertEquals(libc().getuid, compiled);
  // Who has kept the first one can go on with it.
  for (let i = 0; i < OFTEN; i++) assertEquals(first(), Deno.uid());
});

Deno.test("a forked child finds every call compiled", async () => {
  const output = await run(async () => {
    const { libc } = await import(Deno.args[0]!);
    tine.becomeForkable();
    const child = tine.forkChild(() => {
      const before = libc().getuid;
      for (let i = 0; i < 250; i++) libc().getuid();
      return before === libc().getuid ? 0 : 1;
    });
    console.log(tine.waitpid(child).status?.raw);
  }, [LIBC]);
  assertEquals(output, "0\n");
});

Deno.test("libc() says that access to one library is not enough", async () => {
  await using program = startFunction(() => console.log(tine.getpid()), [], {
    flags: ["--no-prompt", "--allow-ffi=libc.so.6"],
  });
  assertEquals((await program.ended()).code, 1);
  assertStringIncludes(
    program.stderr,
    "NotCapable: Requires ffi access to all libraries, which neither --allow-ffi=PATH nor an " +
      "answered prompt gives: run again with the --allow-ffi flag alone",
  );
});
