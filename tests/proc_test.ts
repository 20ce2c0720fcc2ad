import { assert, assertEquals, assertThrows } from "@std/assert";
import { getpid, SyscallError } from "../mod.ts";
import { readNumbers, readText } from "../ffi/proc.ts";
import { scratch } from "./support.ts";

Deno.test("readText() reads files that are larger than its buffer, and smaller ones after them", async () => {
  await using folder = scratch();
  const file = `${folder.path}/file`;
  for (const length of [0, 1, 4096, 100_000, 5, 4097]) {
    // A character of three bytes, so that one of them lies across the buffer's end.
    const text = "€".repeat(length).slice(0, length);
    Deno.writeTextFileSync(file, text);
    assertEquals(readText(file), text);
  }
  assertEquals(readText("/proc/self/comm"), Deno.readTextFileSync("/proc/self/comm"));
  const error = assertThrows(
    () => readText(`${folder.path}/missing`),
    SyscallError,
  ) as SyscallError;
  assertEquals([error.syscall, error.code], ["open", "ENOENT"]);
});

Deno.test("readNumbers() returns the names that are numbers, however many there are", async () => {
  await using folder = scratch();
  const numbers = Array.from({ length: 1000 }, (_, i) => 7 * i);
  const others = ["a", "1a", "a1", "-1", "1.5", "12 "];
  for (const name of [...numbers, ...others]) {
    Deno.writeTextFileSync(`${folder.path}/${name}`, "");
  }
  assertEquals(readNumbers(folder.path).toSorted((a, b) => a - b), numbers);
  assert(readNumbers("/proc/self/task").includes(getpid()));
});
