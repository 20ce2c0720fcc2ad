/**
 * What `deno task repl` evaluates first: every function and constant of `mod.ts` becomes a global
 * name, so that `fork()`, `waitpid()` and sockets can be typed line by line. The task starts Deno
 * with the signal mask and the V8 flags that `becomeForkable()` gives to other programs; a REPL
 * cannot be run again.
 */
import * as tine from "@tine/tine";

tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1, tine.SIGALRM] });
Object.assign(globalThis, tine, {
  fork(options?: tine.ForkOptions): number {
    const pid = tine.fork(options);
    // At the end of the line: the prompt, and what is typed there, is the parent's.
    if (pid === 0 && !options?.runtime) queueMicrotask(() => tine._exit(0));
    return pid;
  },
});

console.log(`\
fork(), waitpid(), signal(), Socket and all else of mod.ts can be typed here. Try:
  const pid = fork(); if (pid === 0) _exit(3);
  waitpid(pid).status
A child that does not call _exit() ends with the line that forked it.`);
