/** The changes that the tests must notice. A change that no test noticed once belongs here. */
import type { Mutant } from "./mutant.ts";

/** The list: `deno task mutants` tries them. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: "heap-not-inherited",
    file: "ffi/runtime/heap.ts",
    text: "  madvise(0n, end, MADV_DOFORK);\n",
    replacement: "",
    test: "tests/fork_test.ts",
    filter: "fork() leaves no mapping that a child would not inherit",
  },
  {
    name: "stock-of-uuids-shared",
    file: "ffi/runtime/entropy.ts",
    text: "  for (let i = 0; i < UUIDS_AT_ONCE; i++) crypto.randomUUID();\n",
    replacement: "",
    test: "tests/entropy_test.ts",
    filter: "children and their children never draw the same",
  },
  {
    name: "deno-pid-of-the-parent",
    file: "ffi/forking/fork.ts",
    text:
      '  Object.defineProperty(Deno, "pid", { get: getpid, enumerable: true, configurable: true });\n',
    replacement: "",
    test: "tests/fork_test.ts",
    filter: "fork() gives parent and child their own numbers, in every place that shows them",
  },
  {
    name: "parents-timers-run-in-child",
    file: "ffi/forking/fork.ts",
    text: "    abandonTimers();\n    return 0;",
    replacement: "    return 0;",
    test: "tests/timers_test.ts",
    filter: "a child with a runtime runs its own timers and not the parent's",
  },
  {
    name: "child-may-return-to-the-loop",
    file: "ffi/forking/no_way_back.ts",
    text: "  if (!queued) queueMicrotask(guard);\n",
    replacement: "",
    test: "tests/fork_test.ts",
    filter: "a child without a runtime ends with an error when it returns to the event loop",
  },
  {
    name: "fork-child-goes-on",
    file: "ffi/forking/fork_child.ts",
    text: `  let code = 1;
  try {
    code = child() ?? 0;
  } catch (error) {
    report(error);
  } finally {
    _exit(exitCode(code));
  }`,
    replacement: `  _exit(exitCode(child() ?? 0));`,
    test: "tests/fork_test.ts",
    filter: "forkChild() never goes on in the parent's code, and gives the exit code",
  },
  {
    name: "pending-signal-waits-behind-ready-descriptor",
    file: "ffi/interruption.ts",
    text: "  if (interruptible()) waitInterruptibly(syscall, object, null, 0);\n",
    replacement: "",
    test: "tests/signal_test.ts",
    filter: "a pending signal is handled although the descriptor is ready",
  },
  {
    name: "handlers-nest",
    file: "ffi/interruption.ts",
    text: "    running ? null : programMask(),",
    replacement: "    programMask(),",
    test: "tests/signal_test.ts",
    filter: "handlers never nest, and none is lost",
  },
  {
    name: "one-child-reaped-per-signal",
    file: "server/forking.ts",
    text: "        endChild(pid, status);\n",
    replacement: "        endChild(pid, status);\n        return;\n",
    test: "tests/server_test.ts",
    filter: "serveForking() leaks nothing over 300 connections, 8 at a time",
  },
  {
    name: "cap-on-children-ignored",
    file: "server/forking.ts",
    text: "      if (children.size >= maxChildren) sleepInterruptibly();\n      else if",
    replacement: "      if",
    test: "tests/server_test.ts",
    filter: "serveForking() at its cap lets clients wait in the backlog, and serves them in turn",
  },
  {
    name: "deadline-of-a-child-ignored",
    file: "server/forking.ts",
    text: "        alarm(Math.ceil(timeout));\n",
    replacement: "",
    test: "tests/server_test.ts",
    filter: "serveForking() ends a child at its deadline, whatever it does",
  },
  {
    name: "hanging-worker-lives",
    file: "server/prefork/master/health.ts",
    text: "now - worker.heardAt > timeout * 1000",
    replacement: "now - worker.heardAt > timeout * 1e6",
    test: "tests/prefork_failures_test.ts",
    filter: "servePrefork() gives up one worker and one client for a handler that never returns",
  },
  {
    name: "paused-server-kills-its-workers",
    file: "server/prefork/master/health.ts",
    text: "if (wasSuspended || worker.slot.heartbeat",
    replacement: "if (worker.slot.heartbeat",
    test: "tests/prefork_failures_test.ts",
    filter: "servePrefork() kills no worker when all of it was paused for longer than --timeout",
  },
  {
    name: "master-restarts-without-a-canary",
    file: "server/prefork/master/restart.ts",
    text: 'if (status.kind === "exited" && status.code === LOADED) {',
    replacement: 'if (status.kind === "exited") {',
    test: "tests/prefork_restart_test.ts",
    filter: "servePrefork() serves new code after SIGHUP, and the old one while the new is broken",
  },
  {
    name: "pid-file-of-a-running-server-taken",
    file: "server/prefork/host/pid_file.ts",
    text: "if (owner !== undefined && owner !== pid && isAlive(owner)) {",
    replacement: "if (owner !== undefined && owner !== pid && !isAlive(owner)) {",
    test: "tests/operations_test.ts",
    filter: "`writePidFile()` refuses when a process that runs has the file",
  },
  {
    name: "client-forges-a-log-line",
    file: "server/prefork/logs/access_line.ts",
    text: String.raw`const EACH_UNSAFE = /[^ !#-[\]-~]/g;`,
    replacement: String.raw`const EACH_UNSAFE = /[^ !"#-[\]-~]/g;`,
    test: "tests/access_log_test.ts",
    filter: "`formatEntry()` leaves a client no way to forge a line",
  },
  {
    name: "failed-step-not-counted",
    file: "tests/ok.ts",
    text: "Math.max(failed, 1)",
    replacement: "failed",
    test: "tests/ok_test.ts",
    filter: "deno task ok counts tests that ended before they could count as a failure",
  },
];
