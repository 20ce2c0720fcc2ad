/**
 * `deno task lab`: the lab in a browser. The page is served by a preforking server of tine's with
 * one worker: sessions are state, and what readers start are the worker's children.
 */
import { parseArgs as parseUntyped } from "@std/cli/parse-args";
import { AppError, isSyscallError, servePrefork } from "../../mod.ts";
import { labApp } from "./web/app.ts";
import { LIMITS } from "./web/limits.ts";

const HELP = `\
Shows the lab in a browser: every stage's processes, descriptors, sockets and signals while it runs.

Usage: deno task lab [options]

  --port N      the port (default 8080); 0 selects a free one
  --host H      the address to listen on (default 127.0.0.1). Who can reach any other
                may start and kill the lab's programs on this machine
  --server PID  a running preforking server of tine's to show as well, read only; repeatable
  --help        this text

Control-C ends the lab and all that was started in it. Exit code: 0 after a signal, 1 if the
lab cannot be served, 2 if an argument is invalid.
`;

// The package has no type declarations.
const parseArgs = parseUntyped as (
  args: readonly string[],
  options: {
    string: readonly string[];
    collect: readonly string[];
    boolean: readonly string[];
    alias: Record<string, string>;
    unknown: (name: string) => void;
  },
) => { port?: string; host?: string; server: string[]; help: boolean };

/** The program was called wrongly. */
class UsageError extends Error {}

interface Arguments {
  readonly help: boolean;
  readonly port: number;
  readonly hostname: string;
  readonly servers: readonly number[];
}

function readArguments(args: readonly string[]): Arguments {
  const { port = "8080", host = "127.0.0.1", server, help } = parseArgs(args, {
    string: ["port", "host", "server"],
    collect: ["server"],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (name) => {
      throw new UsageError(`unknown argument ${name}`);
    },
  });
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) {
    throw new UsageError(`Cannot listen on port "${port}": expected a number from 0 to 65535`);
  }
  if (host === "") throw new UsageError("missing value of --host: expected an address");
  const wrong = server.find((pid) => !/^[1-9]\d{0,8}$/.test(pid));
  if (wrong !== undefined) throw new UsageError(`"${wrong}" is not a pid`);
  return { help, port: Number(port), hostname: host, servers: server.map(Number) };
}

async function main(): Promise<number> {
  const { help, port, hostname, servers } = readArguments(Deno.args);
  if (help) {
    console.log(HELP.trimEnd());
    return 0;
  }
  return await servePrefork(labApp({ hostname, servers }), {
    port,
    hostname,
    workers: 1,
    // Event streams never end by themselves.
    grace: 1,
    maxBodyBytes: 4 * LIMITS.body,
  });
}

try {
  Deno.exit(await main());
} catch (error) {
  const isUsage = error instanceof UsageError || error instanceof RangeError;
  if (!isUsage && !(error instanceof AppError || isSyscallError(error))) throw error;
  console.error(`error: ${error.message}`);
  Deno.exit(isUsage ? 2 : 1);
}
