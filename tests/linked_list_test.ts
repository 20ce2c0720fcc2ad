import { assertEquals } from "@std/assert";
import { LinkedList } from "../server/prefork/worker/linked_list.ts";
import { ROOT, run } from "./support.ts";

Deno.test("a linked list has what was added and not removed, the latest first", () => {
  const list = new LinkedList<number>();
  const [one, two, three, four] = [1, 2, 3, 4].map((value) => list.add(value));
  assertEquals([...list], [4, 3, 2, 1]);
  list.remove(two!);
  list.remove(four!);
  assertEquals([[...list], list.size], [[3, 1], 2]);
  list.remove(one!);
  list.add(5);
  assertEquals([[...list], list.size], [[5, 3], 2]);
  list.remove(three!);
  assertEquals([...list], [5]);
});

Deno.test("a linked list knows what was added first", () => {
  const list = new LinkedList<number>();
  assertEquals(list.oldest(2), []);
  const [one, two, three] = [1, 2, 3].map((value) => list.add(value));
  assertEquals([list.oldest(2), list.oldest(9)], [[1, 2], [1, 2, 3]]);
  list.remove(one!);
  assertEquals(list.oldest(9), [2, 3]);
  list.remove(three!);
  list.add(4);
  assertEquals(list.oldest(9), [2, 4]);
  list.remove(two!);
  assertEquals(list.oldest(9), [4]);
});

Deno.test("a linked list may change while its values are visited", () => {
  const list = new LinkedList<number>();
  const entries = [1, 2, 3].map((value) => list.add(value));
  const seen: number[] = [];
  for (const value of list) {
    seen.push(value);
    if (value === 3) list.remove(entries[1]!);
    if (value === 2) list.add(4);
  }
  assertEquals(seen, [3, 2, 1]);
});

Deno.test("what was in a linked list is freed by the first collections of young objects", async () => {
  const output = await run(
    async () => {
      const { LinkedList } = await import(Deno.args[0]!);
      const { gc } = globalThis as unknown as { gc(options: { type: "minor" }): void };
      const list = new LinkedList();
      const collect = async () => {
        await new Promise((resolve) => setTimeout(resolve)); // a WeakRef keeps its target for a turn
        gc({ type: "minor" });
      };
      const open = Array.from({ length: 32 }, () => list.add({}));
      for (let i = 0; i < 4; i++) await collect(); // the list is in the old generation
      const values: WeakRef<object>[] = [];
      for (let i = 0; i < 6400; i++) {
        const slot = i % open.length;
        list.remove(open[slot]);
        const value = { number: i };
        open[slot] = list.add(value);
        values.push(new WeakRef(value));
        if (i % 40 === 0) await collect();
      }
      for (let i = 0; i < 2; i++) await collect();
      console.log(values.filter((value) => value.deref() !== undefined).length);
    },
    [new URL("server/prefork/worker/linked_list.ts", ROOT).href],
    { flags: ["--allow-all", "--v8-flags=--expose-gc,--single_threaded"] },
  );
  assertEquals(output, "32\n"); // those that are in the list
});
