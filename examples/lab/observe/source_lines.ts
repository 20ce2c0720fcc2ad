/**
 * Where in its source a process stands. The kernel says which system call it is in; a program that
 * makes this call in one line only must be there.
 */
import type { DescriptorView } from "../lesson.ts";

/** Functions of tine that may be in a system call, by what the call waits for. */
const FUNCTIONS: Record<string, string> = {
  accept4: "accept",
  accept: "accept",
  recvfrom: "recv",
  sendto: "send|sendall",
  read: "read|recv",
  write: "write|send|sendall",
  wait4: "wait|waitpid",
  flock: "flock",
  connect: "connect",
};

/**
 * The functions that can be in a system call.
 *
 * @param call The system call's name.
 * @param polled The only descriptor that it waits for, if it is a `ppoll()` for one.
 * @param isListening Whether that is a listening socket.
 */
export function functionsIn(
  call: string,
  polled: DescriptorView | undefined,
  isListening: boolean,
): string | undefined {
  if (call !== "ppoll") return FUNCTIONS[call];
  if (polled === undefined) return "sleep|nanosleep|pause";
  if (polled.target === "anon_inode:[signalfd]") return "wait|waitpid";
  if (isListening) return "accept";
  return polled.kind === "tcp" || polled.kind === "unix" ? "recv|connect" : undefined;
}

const sources = new Map<string, readonly string[]>();

/** The only line of a file that calls one of some functions; `undefined` if there are several. */
export function lineCalling(
  path: string,
  functions: string,
): { line: number; text: string } | undefined {
  let lines = sources.get(path);
  if (lines === undefined) {
    lines = readLines(path);
    sources.set(path, lines);
  }
  const call = new RegExp(`\\b(?:${functions})\\(`);
  const [found, ...others] = lines.flatMap((text, i) => call.test(text) ? [i] : []);
  if (found === undefined || others.length > 0) return undefined;
  return { line: found + 1, text: lines[found]!.trim() };
}

/** A program's lines without comments and the functions it declares itself. */
function readLines(path: string): string[] {
  try {
    return Deno.readTextFileSync(path).split("\n")
      .map((line) => line.replace(/(^|\s)\/\/.*$/, "").replace(/^\s*(\/?\*.*|function .*)$/, ""));
  } catch {
    return [];
  }
}
