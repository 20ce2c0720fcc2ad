/**
 * What the guest programs share: a line for each check, and children that tell
 * their parent what they saw.
 */
import { assertEquals } from "@std/assert";
import * as tine from "../../mod.ts";

let checks = 0;

/** Runs a check and prints `ok NAME` or `not ok NAME: REASON`; the rest goes on in any case. */
export async function check(name: string, body: () => void | Promise<void>): Promise<void> {
  checks++;
  const pid = tine.getpid();
  let line = `ok ${name}`;
  try {
    await body();
  } catch (error) {
    const reason = error instanceof Error ? error.stack ?? error.message : String(error);
    line = `not ok ${name}: ${reason.replaceAll("\n", "\n  ")}`;
  }
  // A child that got here would run all other checks beside its parent.
  if (tine.getpid() !== pid) tine._exit(99);
  console.log(line);
}

/** Prints how many checks there were: without this line the program did not reach its end. */
export function end(): void {
  console.log(`1..${checks}`);
}

/** What a function gives in a forked child. */
export function inChild<T>(body: () => T): T {
  const [readEnd, writeEnd] = tine.pipe();
  const pid = tine.forkChild(() => {
    readEnd.close();
    writeEnd.write(bytes(JSON.stringify(body())));
  });
  writeEnd.close();
  const answer = readAll(readEnd);
  assertEquals(tine.waitpid(pid).status, { kind: "exited", code: 0, raw: 0 });
  return JSON.parse(answer);
}

/** Reads a descriptor to its end, and closes it. */
export function readAll(fd: tine.Descriptor): string {
  let all = "";
  for (;;) {
    const part = text(fd.read(4096));
    if (part === "") break;
    all += part;
  }
  fd.close();
  return all;
}

/** A listening socket on a free port of the loopback interface. */
export function listenLocally(): tine.Socket {
  const listener = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  listener.bind(["127.0.0.1", 0]);
  listener.listen(16);
  return listener;
}

/** Both ends of a fresh connection. */
export function connectTo(listener: tine.Socket): [client: tine.Socket, server: tine.Socket] {
  const client = new tine.Socket(listener.family, tine.SOCK_STREAM);
  client.connect(listener.getsockname());
  return [client, listener.accept()[0]];
}

/** The code of the {@linkcode tine.SyscallError} that a call fails with. */
export function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof tine.SyscallError) return error.code;
    throw error;
  }
  return "no error";
}

/** Waits until a condition holds, in a process whose event loop stands still. */
export function waitUntil(condition: () => boolean, what: string): void {
  const late = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > late) throw new Error(`Waited 20 seconds in vain for ${what}`);
    // The handler of a signal may end it early, and is welcome to.
    tine.sleep(0.005);
  }
}

export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
