/** How a command is run, and how a reader would type it. */
import type { Command } from "../lesson.ts";
import { getuid } from "../../../mod.ts";

/** A command that is ready to be run. */
export interface CommandLine {
  readonly argv: readonly [string, ...string[]];
  /** As a reader could type it in the repository's root. */
  readonly text: string;
}

/**
 * Gives up root, but goes on reading what only root may read: Deno and the repository may be in
 * root's home. The limit for a user's processes does not count for root.
 */
const UNPRIVILEGED = [
  "setpriv",
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
  "--inh-caps=+dac_read_search",
  "--ambient-caps=+dac_read_search",
];

/** Puts a command together. */
export function commandLine(command: Command, port: number | undefined, root: string): CommandLine {
  const args = (command.args ?? []).map((arg) => arg === "PORT" ? `${port}` : arg);
  const flags = command.flags ?? ["--allow-ffi"];
  const program = command.folder === undefined ? command.program : `${root}${command.program}`;
  const words = command.command?.map((arg) => arg === "PORT" ? `${port}` : arg) ??
    ["deno", "run", ...flags, program!];
  words.push(...args);
  if (command.user === "unprivileged" && getuid() === 0) words.unshift(...UNPRIVILEGED);
  const env = Object.entries(command.env ?? {}).map(([name, value]) => `${name}=${quote(value)}`);
  const line = [...env, ...words.map(quote)].join(" ");
  const before = [
    ...command.folder === undefined ? [] : [`cd ${quote(command.folder)};`],
    ...command.shell === undefined ? [] : [command.shell],
  ];
  const text = before.length === 0 ? line : `(${[...before, line].join(" ")})`;
  const real = words.map((word) => word === "deno" ? Deno.execPath() : word);
  const [first = "", ...rest] = real;
  if (command.shell === undefined) return { argv: [first, ...rest], text };
  const script = `${command.shell} exec ${real.map(quote).join(" ")}`;
  return { argv: ["/bin/bash", "-c", script], text };
}

/** Quotes a word for a shell, if it needs that. */
export function quote(word: string): string {
  return /^[\w@%+=:,.\/-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
