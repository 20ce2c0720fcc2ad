/** The terminal as a screen that is drawn on, and given back as it was. */
import { print } from "./print.ts";

/** A terminal's other screen, without a cursor and without lines that go on in the next one. */
const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/** A screen. */
export interface Screen extends Disposable {
  /** Draws lines from the top; the one with the given index stands out. */
  draw(lines: readonly string[], outstanding: number): void;
  /** Gives the terminal back to the shell that stops this process. */
  suspend(): void;
  /** Takes it again. */
  resume(): void;
}

/**
 * Takes over the terminal. Disposing of the result gives it back.
 *
 * @param onKey Receives what is typed; `undefined` if the terminal is gone.
 */
export function openScreen(onKey: (key: string | undefined) => void): Screen {
  const hasKeys = Deno.stdin.isTerminal();
  let isOpen = false;
  resume();
  if (hasKeys) readKeys(onKey);
  return {
    draw(lines, outstanding) {
      const drawn = lines.map((line, i) =>
        i === outstanding && !Deno.noColor ? `\x1b[7m${line}\x1b[K\x1b[0m` : `${line}\x1b[K`
      );
      print(`\x1b[H${drawn.join("\r\n")}\x1b[J`);
    },
    suspend,
    resume,
    [Symbol.dispose]: suspend,
  };

  function resume(): void {
    if (isOpen) return;
    isOpen = true;
    if (hasKeys) Deno.stdin.setRaw(true, { cbreak: true }); // Control-C stays a signal
    print(ENTER);
  }

  function suspend(): void {
    if (!isOpen) return;
    isOpen = false;
    try {
      print(LEAVE);
      if (hasKeys) Deno.stdin.setRaw(false);
    } catch {
      // The terminal is gone.
    }
  }
}

/** What arrows and other keys send that stand for no character: sequences that contain letters. */
// deno-lint-ignore no-control-regex
const FUNCTION_KEYS = /\x1b(\[[0-?]*[ -/]*[@-~]|O.)?/g;

async function readKeys(onKey: (key: string | undefined) => void): Promise<void> {
  const buffer = new Uint8Array(64);
  const decoder = new TextDecoder();
  for (;;) {
    const count = await Deno.stdin.read(buffer).catch(() => null);
    if (count === null) return onKey(undefined);
    const typed = decoder.decode(buffer.subarray(0, count));
    for (const key of typed.replace(FUNCTION_KEYS, "")) onKey(key);
  }
}
