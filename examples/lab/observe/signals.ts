/** The signals in a mask of `/proc/PID/status`. */
import { signalName } from "../../../mod.ts";

// Masks repeat: most processes have the same.
const named = new Map<string, readonly string[]>();

/** The names of the signals in a mask of 16 hexadecimal digits. */
export function signalsIn(mask: string): readonly string[] {
  let names = named.get(mask);
  if (names === undefined) {
    const bits = BigInt(`0x${mask}`);
    names = Array.from({ length: 64 }, (_, i) => i + 1)
      .filter((signum) => (bits >> BigInt(signum - 1)) & 1n)
      .map(signalName);
    named.set(mask, names);
  }
  return names;
}
