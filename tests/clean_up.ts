/** What a program that starts others leaves behind: nothing, also when a signal ends it. */

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** A variable of the environment that all that this program starts inherits. */
const MARK = `TINE_STARTED_BY_${Deno.pid}`;

/**
 * Has a function called at the end of a program that starts others, and ends all that it has
 * started: the processes, their children, and those that have lost their parents.
 *
 * @param cleanUp Called last; it must not wait.
 * @returns To be disposed at the end. A signal that ends the program does the same.
 */
export function cleaningUp(cleanUp: () => void = () => {}): Disposable {
  Deno.env.set(MARK, "yes");
  const finish = () => {
    endStarted();
    cleanUp();
  };
  const listeners = Object.entries(SIGNALS).map(([name, number]) => {
    const listener = () => {
      finish();
      Deno.exit(128 + number);
    };
    Deno.addSignalListener(name as Deno.Signal, listener);
    return () => Deno.removeSignalListener(name as Deno.Signal, listener);
  });
  return {
    [Symbol.dispose]() {
      for (const remove of listeners) remove();
      finish();
    },
  };
}

/** Ends all that this program has started since {@linkcode cleaningUp}. */
export function endStarted(): void {
  endMarked(MARK, "yes");
}

/** Ends all other processes whose environment had a variable with this value at their start. */
export function endMarked(name: string, value: string): void {
  const marked = () => processesWith(`${name}=${value}`);
  // What is killed may have made another just before.
  for (let pids = marked(); pids.length > 0; pids = marked()) {
    for (const pid of pids) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
  }
}

function processesWith(variable: string): number[] {
  return [...Deno.readDirSync("/proc")]
    .map(({ name }) => Number(name))
    .filter((pid) => pid > 0 && pid !== Deno.pid && hasVariable(pid, variable));
}

function hasVariable(pid: number, variable: string): boolean {
  try {
    // A zombie has none.
    return Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0").includes(variable);
  } catch {
    return false; // it has ended, or is another user's
  }
}
