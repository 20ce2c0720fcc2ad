/**
 * Installs the command line as a command: `deno task install DIRECTORY` writes `tine.js`, a single
 * file that contains all code, and `tine`, which starts it.
 *
 * A process that forks needs V8 flags and a signal mask from its start, and re-executes itself if
 * it lacks them. `tine` sets both.
 */
import { signalName } from "../../ffi/signals.ts";
import { ASSUMPTIONS } from "../../ffi/runtime/assumptions.ts";
import { HANDLED_SIGNALS } from "../prefork/signals.ts";
import { LAUNCHED, SEPARATOR } from "./launched.ts";
import { SWITCHES } from "./options.ts";

const FLAGS = "--v8-flags=--single_threaded,--no-lazy,--max-semi-space-size=4";

const { name: AUTO_SERVE, value: YES } = ASSUMPTIONS.autoServe.value;

/**
 * Returns the command prefix that starts a program so that its first `becomeForkable()` has nothing
 * to do.
 */
export function forkableFromStart(): string[] {
  const signals = HANDLED_SIGNALS.map((signum) => signalName(signum).slice("SIG".length));
  return ["env", `--block-signal=${signals.join()}`, "deno", "run", FLAGS];
}

if (import.meta.main) {
  const [directory, ...surplus] = Deno.args;
  if (directory === undefined || surplus.length > 0) {
    console.error(
      "error: expected one directory, such as ~/.local/bin: deno task install DIRECTORY",
    );
    Deno.exit(2);
  }
  try {
    Deno.mkdirSync(directory, { recursive: true });
    const path = Deno.realPathSync(directory);
    await bundle(`${path}/tine.js`);
    Deno.writeTextFileSync(`${path}/tine`, launcher(`${path}/tine.js`));
    Deno.chmodSync(`${path}/tine`, 0o755);
    console.log(`Installed ${path}/tine`);
  } catch (error) {
    console.error(`error: Cannot install into ${directory}: ${(error as Error).message}`);
    Deno.exit(1);
  }
}

async function bundle(file: string): Promise<void> {
  const source = new URL("whole.ts", import.meta.url).href;
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--platform", "deno", source, "--output", file],
    cwd: new URL("../..", import.meta.url),
    stdin: "null",
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim());
}

/**
 * Returns a shell script. It runs the first `deno` in the path, or the one that installed it. If the
 * arguments name an app to serve, the app is the main module at once (`launched.ts`).
 */
function launcher(file: string): string {
  const [env, mask, deno, ...run] = forkableFromStart();
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const preload = quoted(`--preload=${file.replaceAll(",", "%2C")}`); // it may be a list
  return `#!/bin/sh
deno=$(command -v ${deno}) || deno=${quoted(Deno.execPath())}
run() {
  exec ${env} ${mask} "$deno" ${run.join(" ")} --allow-all "$@"
}
serve() {
  args="\${DENO_AUTO_SERVE+=}$DENO_AUTO_SERVE${SEPARATOR}" # without a process for it
  for arg; do args="$args$arg${SEPARATOR}"; done
  app=
  while [ $# -gt 0 ]; do
    case $1 in
      --) shift; break ;;
      --help) return ;;
      ${SWITCHES.map((name) => `--${name}`).join("|")}|--*=*) ;;
      --*) shift ;;
      -*) return ;;
      *) [ -z "$app" ] || return; app=$1 ;;
    esac
    [ $# -eq 0 ] || shift
  done
  [ -n "$app" ] || return
  export ${LAUNCHED}="$args" ${AUTO_SERVE}=${YES}
  run ${preload} "$app" "$@"
}
# Telemetry must be kept from the master: what follows does that.
[ "$1" != serve ] || [ -n "$OTEL_DENO" ] || { shift; serve "$@"; set -- serve "$@"; }
run --no-config ${quoted(file)} "$@"
`;
}
