/** Sleeps until a time or a signal, whichever comes first. */
export interface Interruption {
  /** The first signal that has arrived; `undefined` if none has. */
  readonly signal: Deno.Signal | undefined;
  /** Sleeps so many milliseconds, until a signal arrives, or until it is woken. */
  sleep(milliseconds: number): Promise<void>;
  /** Ends the sleep. */
  wake(): void;
  /** Gives the signals back their usual effect. */
  stop(): void;
}

/**
 * Has signals end a sleep, and not the process.
 *
 * @param signals The signals.
 */
export function interruptible(
  signals: readonly Deno.Signal[] = ["SIGINT", "SIGTERM"],
): Interruption {
  let signal: Deno.Signal | undefined;
  let wake = () => {};
  const handlers = signals.map((name) => {
    const handler = () => {
      signal ??= name;
      wake();
    };
    Deno.addSignalListener(name, handler);
    return () => Deno.removeSignalListener(name, handler);
  });
  return {
    get signal() {
      return signal;
    },
    sleep: (milliseconds) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, signal === undefined ? milliseconds : 0);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      }),
    wake: () => wake(),
    stop: () => handlers.forEach((remove) => remove()),
  };
}
