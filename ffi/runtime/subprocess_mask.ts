/**
 * The signal mask of subprocesses. They inherit that of the thread that starts them, which is the
 * main one, and would block the signals that this process holds: neither SIGTERM nor Control-C would
 * end them. So from when tine is loaded, `Deno.Command` and the asynchronous functions of
 * `node:child_process` start them with the program's own mask. `spawnSync()` and the like cannot be
 * reached.
 */
import { withProgramMask } from "../program_mask.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { onFirstAssignment, onFirstUse, replaceProperty } from "./globals.ts";

const NODE = ASSUMPTIONS.nodeSubprocess.value;

/** What `node:diagnostics_channel` tells of an object that is about to start a process. */
interface Message {
  readonly process: object;
}

interface Channels {
  subscribe(name: string, listener: (message: Message) => void): void;
  unsubscribe(name: string, listener: (message: Message) => void): void;
}

let isPatched = false;

function patchCommand(): void {
  if (isPatched) return;
  isPatched = true;
  lendMaskTo(Deno.Command.prototype, ["spawn", "output", "outputSync"]);
}

/** Node's class cannot be reached before its module is loaded, which takes milliseconds. */
function watchNode(): void {
  const { internal } = Deno as unknown as { internal?: symbol };
  const inside = internal && (Deno as unknown as Record<symbol, object | undefined>)[internal];
  if (inside === undefined) return;
  if (Object.hasOwn(inside, NODE.loaded)) watchFirst();
  else onFirstAssignment(inside, NODE.loaded, watchFirst);
}

function watchFirst(): void {
  const { process } = globalThis as unknown as {
    process?: { getBuiltinModule?(name: string): Channels | undefined };
  };
  const channels = process?.getBuiltinModule?.("node:diagnostics_channel");
  const onFirst = ({ process }: Message): void => {
    channels!.unsubscribe(NODE.channel, onFirst);
    lendMaskTo(Object.getPrototypeOf(process), ["spawn"]);
  };
  channels?.subscribe(NODE.channel, onFirst);
}

type Method = (this: unknown, ...args: unknown[]) => unknown;

function lendMaskTo(prototype: object, names: readonly string[]): void {
  const methods = prototype as Record<string, Method>;
  for (const name of names) {
    replaceProperty(methods, name, (original) =>
      function (...args): unknown {
        return withProgramMask(() => original.apply(this, args));
      });
  }
}

// Deno.spawn() and the like call the methods of the same class, without a use of the property.
const unused = ["Command", "spawn", "spawnAndWait", "spawnAndWaitSync"]
  .filter((name) => onFirstUse(Deno, name, patchCommand));
if (!unused.includes("Command")) patchCommand(); // it is loaded
watchNode();
