/**
 * What the guest programs share: a line for each check, and children that report to their parent.
 */
import { assertEquals } from "@std/assert";
import * as tine from "../../mod.ts";

let checks = 0;

/**
 * Runs a check, and prints `ok NAME` or `not ok NAME: REASON`. The program continues in any case.
 */
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
  // A child that came here would also run all other checks.
  if (tine.getpid() !== pid) tine._exit(99);
  console.log(line);
}

/** Prints the number of checks. If this line is missing, the program did not reach its end. */
export function end(): void {
  console.log(`1..${checks}`);
}

/** Returns what a function returns in a forked child. */
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

/** Reads a descriptor up to its end, and closes it. */
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

/** Both ends of a new connection. */
export function connectTo(listener: tine.Socket): [client: tine.Socket, server: tine.Socket] {
  const client = new tine.Socket(listener.family, tine.SOCK_STREAM);
  client.connect(listener.getsockname());
  return [client, listener.accept()[0]];
}

/** Returns the code of the {@linkcode tine.SyscallError} with which a call fails. */
export function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof tine.SyscallError) return error.code;
    throw error;
  }
  return "no error";
}

/** Waits until a condition is met, without running the event loop. */
export function waitUntil(condition: () => boolean, what: string): void {
  const late = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > late) throw new Error(`Waited 20 seconds in vain for ${what}`);
    // The handler of a signal may interrupt it, which does no harm.
    tine.sleep(0.005);
  }
}

export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
