/**
 * The process of one reader's session (see session.ts): it reads orders from its standard input, a
 * line of JSON each, and writes events to its standard output. It ends, with all that it started,
 * at the end of its input.
 */
import { becomeForkable } from "../../../mod.ts";
import { Guard } from "../stage/guard.ts";
import { Player } from "./player.ts";
import { linesOf } from "./lines.ts";

/** What the server orders. */
type Order =
  | { readonly call: number; readonly action: Readonly<Record<string, unknown>> }
  | { readonly look: boolean };

// The guard is forked, before anything is started.
becomeForkable({ signals: [] });
const guard = Guard.start();
const encoder = new TextEncoder();
let written = Promise.resolve();
let unwritten = 0;

/** Writes a line in its turn. Nobody reads it once the server has ended. */
function write(line: string): void {
  const bytes = encoder.encode(`${line}\n`);
  unwritten += bytes.length;
  written = written.then(async () => {
    for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
  }).catch(() => {}).then(() => {
    unwritten -= bytes.length;
  });
}

const player = new Player({ guard, write, isBehind: () => unwritten > 2 ** 20 });
for await (const line of linesOf(Deno.stdin.readable)) {
  const order = JSON.parse(line) as Order;
  if ("look" in order) player.look(order.look);
  else {
    player.act(order.action).then((reply) => {
      write(JSON.stringify({ reply: order.call, ...reply }));
    });
  }
}
await player.end();
Deno.exit(0);
