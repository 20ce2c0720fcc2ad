/** Guest program: children with an event loop of their own, beside the parent's. */
import { assert, assertEquals } from "@std/assert";
import * as tine from "../../mod.ts";
import { registrationsOf } from "../../ffi/runtime/event_loop.ts";
import { readlink, readNumbers } from "../../ffi/proc.ts";
import { bytes, check, end, text } from "./guest.ts";

tine.becomeForkable({ signals: [] });

const folder = Deno.args[0]!;
Deno.writeTextFileSync(`${folder}/text`, "from the file");

const server = Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: () => {} },
  (request) => new Response(`parent ${tine.getpid()} ${new URL(request.url).pathname}`),
);
const origin = `http://127.0.0.1:${server.addr.port}`;

let ticks = 0;
const ticker = setInterval(() => ticks++, 20);

await check("the parent's event loop works before it forks", async () => {
  assertEquals(await textOf(`${origin}/before`), `parent ${tine.getpid()} /before`);
  assertEquals(await Deno.readTextFile(`${folder}/text`), "from the file");
});

for (const round of [1, 2]) {
  await check(`\`fork()\` with a runtime gives a live event loop, round ${round}`, async () => {
    const before = ticks;
    const [child, seen] = await inRuntimeChild(async () => {
      const ticksBefore = ticks;
      const own = Deno.serve(
        { hostname: "127.0.0.1", port: 0, onListen: () => {} },
        async (request) => new Response(`own ${await request.text()}`),
      );
      const start = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 50));
      const digest = await crypto.subtle.digest("SHA-256", bytes("abc"));
      return {
        slept: performance.now() - start >= 50,
        file: await Deno.readTextFile(`${folder}/text`),
        digest: new Uint8Array(digest).slice(0, 4).join(),
        data: await textOf("data:,hello"),
        own: await textOf(`http://127.0.0.1:${own.addr.port}`, { method: "POST", body: "x" }),
        parent: await textOf(`${origin}/from-child`),
        // The timer belongs to the parent, and never runs in the child.
        ticks: ticks - ticksBefore,
      };
    });
    assertEquals(seen, {
      slept: true,
      file: "from the file",
      digest: "186,120,22,191",
      data: "hello",
      own: "own x",
      parent: `parent ${tine.getpid()} /from-child`,
      ticks: 0,
    });
    assert(ticks > before + 1, "the parent's timer stood still");
    assertEquals(tine.waitpid(child).status?.raw, 0);
  });
}

await check("a child's event loop is registered with the parent's tokens", async () => {
  const parents = registrations();
  const [child, childs] = await inRuntimeChild(() => Promise.resolve(registrations()));
  // The waker, and tokio's socket for signals: with a wrong layout, a token other than 0 is lost.
  assertEquals(childs.map(token), [0, 1]);
  for (const registration of childs) {
    assert(parents.includes(registration), [registration, "is none of", ...parents].join("\n"));
  }
  assertEquals(tine.waitpid(child).status?.raw, 0);
});

await check("`forkRuntimeChild()` ends a child whose function rejects", async () => {
  const pid = await tine.forkRuntimeChild(() => Promise.reject(new Error("wanted by this check")));
  assertEquals(tine.waitpid(pid).status, { kind: "exited", code: 1, raw: 0x100 });
});

await check("two children serve at the same time, and differ", async () => {
  const children = await Promise.all([1, 2].map(() =>
    inRuntimeChild(async () => {
      const own = Deno.serve(
        { hostname: "127.0.0.1", port: 0, onListen: () => {} },
        () => new Response(crypto.randomUUID()),
      );
      return await textOf(`http://127.0.0.1:${own.addr.port}`);
    })
  ));
  const answers = children.map(([, answer]) => answer);
  assertEquals(new Set(answers).size, 2, answers.join());
  for (const [child] of children) assertEquals(tine.waitpid(child).status?.raw, 0);
});

await check("the parent's event loop continues", async () => {
  const before = ticks;
  assertEquals(await textOf(`${origin}/after`), `parent ${tine.getpid()} /after`);
  assertEquals(await Deno.readTextFile(`${folder}/text`), "from the file");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert(ticks > before, "the timer stood still");
});

clearInterval(ticker);
await server.shutdown();
end();

/** Forks a child with a runtime: its pid, and what an asynchronous function resolves to in it. */
async function inRuntimeChild<T>(body: () => Promise<T>): Promise<[pid: number, value: T]> {
  const [readEnd, writeEnd] = tine.pipe();
  const pid = await tine.forkRuntimeChild(async () => {
    writeEnd.write(bytes(JSON.stringify(await body())));
  });
  writeEnd.close();
  // The event loop of the parent must run: its server answers the child.
  while (tine.poll([{ fd: readEnd.fileno(), events: tine.POLLIN }], 0).length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const answer = text(readEnd.read(4096));
  readEnd.close();
  if (answer === "") {
    throw new Error(`The child said nothing: ${JSON.stringify(tine.waitpid(pid).status)}`);
  }
  return [pid, JSON.parse(answer)];
}

async function textOf(url: string, init?: RequestInit): Promise<string> {
  return await (await fetch(url, init)).text();
}

/**
 * Returns what the event loop watches: descriptors, events and tokens, as the kernel shows them.
 */
function registrations(): string[] {
  const watched = readNumbers("/proc/self/fd").filter(isEpoll).flatMap(registrationsOf);
  // Duplicates of an epoll instance show the same registrations.
  return [...new Set(watched.map(({ fd, events, data }) => `${fd} ${events} ${data}`))]
    .sort((a, b) => token(a) - token(b));
}

function token(registration: string): number {
  return Number(registration.split(" ").at(-1));
}

function isEpoll(fd: number): boolean {
  try {
    return readlink(`/proc/self/fd/${fd}`) === "anon_inode:[eventpoll]";
  } catch {
    return false; // closed in the meantime
  }
}
