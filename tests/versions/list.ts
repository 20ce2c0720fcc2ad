/** The versions of Deno that are tried, and the tests that tell whether tine works on one. */

/** A version, newest first. */
export interface Version {
  readonly name: string;
  /** Whether CI tries it, too: one of each series in which something is different. */
  readonly inCi?: true;
}

/** The list. The last ones are too old, and must say so. */
export const VERSIONS: readonly Version[] = [
  { name: "2.9.6" },
  { name: "2.9.5", inCi: true },
  { name: "2.9.4" },
  { name: "2.9.3" },
  { name: "2.9.2" },
  { name: "2.9.1" },
  { name: "2.9.0" },
  { name: "2.8.3", inCi: true },
  { name: "2.7.14", inCi: true },
  { name: "2.6.8" },
  { name: "2.5.7", inCi: true },
  { name: "2.4.4", inCi: true },
  { name: "2.3.7" },
  { name: "2.2.15", inCi: true },
  { name: "1.46.3" },
];

/** What tine is made of, as the table's columns show it. */
export const ASPECTS = ["fork", "runtime", "prefork", "bodies", "restart"] as const;

/** A column of the table. */
export type Aspect = typeof ASPECTS[number];

/** Tests of an aspect: a file, and parts of their names, as they stand in it. */
export interface Chosen {
  readonly aspect: Aspect;
  readonly file: string;
  readonly tests: readonly string[];
}

/**
 * The tests that are run. A part that several names have chooses them all, and a test counts for
 * the first entry that chooses it. They take seconds, and look at what Deno does rather than at how
 * it is made: `ffi/runtime/assumptions.ts` has another test for that.
 */
export const CHOSEN: readonly Chosen[] = [
  {
    aspect: "fork",
    file: "tests/fork_test.ts",
    tests: [
      "fork() creates a child that has the parent's heap",
      "fork() leaves no mapping that a child would not inherit",
      "fork() gives parent and child their own numbers, in every place that shows them",
      "fork() gives children their own process.pid, even if the parent has loaded node:process",
      "process.kill(process.pid) in a child ends the child",
      "fork() works from inside a forked child",
      "a child has the signal mask from before becomeForkable(), unless it keeps handlers",
      "fork() in a handler does not change the mask there or outside",
      "an uncaught exception in a child is printed and ends it with exit code 1",
      "a child without a runtime ends with an error when it returns to the event loop",
    ],
  },
  {
    aspect: "fork",
    file: "tests/entropy_test.ts",
    tests: [
      "children and their children never draw the same",
      "share none of 400 numbers each that were drawn in advance",
      "never draw the same from a Math.random() that was saved before the first fork",
    ],
  },
  {
    aspect: "fork",
    file: "tests/become_forkable_test.ts",
    tests: ["FinalizationRegistry and Atomics.waitAsync() live in parents and children"],
  },
  {
    aspect: "fork",
    file: "tests/v8_workers_test.ts",
    tests: ["children collect garbage while other threads have the stacks of V8's threads"],
  },
  {
    aspect: "fork",
    file: "tests/signal_test.ts",
    tests: [
      "under many signals, every child is reaped and every call succeeds or fails with EINTR",
    ],
  },
  {
    aspect: "runtime",
    file: "tests/fork_runtime_test.ts",
    tests: [
      "fork({ runtime: true }) gives the child a working event loop",
      "a runtime child does not continue the parent's work, and has none of its sockets",
      "200 runtime children with files, WebCrypto, DNS, a subprocess and fetch: none fails",
      "runtime children work from a loop that never returns to the event loop",
      "a runtime child can fork runtime children of its own",
      "events of a child wake no event loop other than its own",
      "forks and file operations do not create more threads",
    ],
  },
  {
    aspect: "runtime",
    file: "tests/timers_test.ts",
    tests: [
      "a child with a runtime runs its own timers and not the parent's",
      "an interval that forks continues only in the parent",
      "a Node server sends the current time in a child",
    ],
  },
  {
    aspect: "bodies",
    file: "tests/prefork_test.ts",
    tests: ["servePrefork() streams bodies in and out"],
  },
  {
    aspect: "bodies",
    file: "tests/admission_test.ts",
    tests: [
      "timeouts do not affect a slow handler, an idle stream or a WebSocket",
      "--body-timeout answers a stalled body with 408, however the app reads it",
      "--body-timeout and --max-body-bytes apply however a body is read",
      "--body-timeout allows a slow body that takes longer",
      "--max-body-bytes rejects a body that is too long with 413",
      "a client that goes on sending a body that nobody reads is cut off",
    ],
  },
  {
    aspect: "prefork",
    file: "tests/prefork_test.ts",
    tests: [
      "servePrefork() serves with every worker, and never with the master",
      "servePrefork() serves HTTPS with HTTP/2",
      "servePrefork() serves the admin socket in plain HTTP, without the app's limits",
      "servePrefork() waits for onWorkerStart and onWorkerStop",
      "servePrefork() never returns the same UUID from two workers",
    ],
  },
  {
    aspect: "prefork",
    file: "tests/prefork_accept_test.ts",
    tests: [
      "a connection wakes one worker of many",
      "a connection is accepted by another worker if the one that it woke has ended",
    ],
  },
  {
    aspect: "prefork",
    file: "tests/prefork_failures_test.ts",
    tests: [
      "servePrefork() loses one worker and one client to a handler that never returns",
      "servePrefork() replaces a worker that exits, runs out of memory or crashes",
      "servePrefork() leaves nothing behind when its master is killed",
    ],
  },
  {
    aspect: "restart",
    file: "tests/prefork_restart_test.ts",
    tests: [
      "servePrefork() drops no connection of a fetch app when SIGHUP comes 20 times under load",
      "servePrefork() serves new code after SIGHUP, and the old code while the new one is broken",
      "servePrefork() loads the app in each worker with --no-preload",
      "servePrefork() finishes requests and closes WebSockets on SIGHUP",
      "servePrefork() finishes accepted requests on SIGTERM under load",
      "servePrefork() adds, removes and replaces workers under load",
    ],
  },
  {
    aspect: "restart",
    file: "tests/prefork_reload_test.ts",
    tests: [
      "servePrefork() does not lose a SIGHUP that arrives while a canary runs",
      "servePrefork() keeps the number of workers set by SIGTTIN and SIGTTOU after SIGHUP",
    ],
  },
];

/** Returns the aspect that a test counts for; `undefined` if it is not one of those chosen. */
export function aspectOf(test: string): Aspect | undefined {
  return CHOSEN.find(({ tests }) => tests.some((part) => test.includes(part)))?.aspect;
}
