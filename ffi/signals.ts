// Signal numbers, signal(7). x86-64 and aarch64 share them.
export const SIGHUP = 1;
export const SIGINT = 2;
export const SIGQUIT = 3;
export const SIGILL = 4;
export const SIGTRAP = 5;
export const SIGABRT = 6;
export const SIGIOT = 6;
export const SIGBUS = 7;
export const SIGFPE = 8;
export const SIGKILL = 9;
export const SIGUSR1 = 10;
export const SIGSEGV = 11;
export const SIGUSR2 = 12;
export const SIGPIPE = 13;
export const SIGALRM = 14;
export const SIGTERM = 15;
export const SIGSTKFLT = 16;
export const SIGCHLD = 17;
export const SIGCONT = 18;
export const SIGSTOP = 19;
export const SIGTSTP = 20;
export const SIGTTIN = 21;
export const SIGTTOU = 22;
export const SIGURG = 23;
export const SIGXCPU = 24;
export const SIGXFSZ = 25;
export const SIGVTALRM = 26;
export const SIGPROF = 27;
export const SIGWINCH = 28;
export const SIGIO = 29;
export const SIGPOLL = 29;
export const SIGPWR = 30;
export const SIGSYS = 31;

const NAMES = ("- SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 " +
  "SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP " +
  "SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR " +
  "SIGSYS").split(" ");

/** The highest signal number that the kernel knows (`SIGRTMAX`). */
export const SIGNAL_MAX = 64;

/**
 * The name of a signal: `"SIGCHLD"` for 17, `"SIG34"` for one without a name.
 *
 * @param signum The signal's number, 1 to 64.
 * @throws {RangeError} When there is no such signal.
 */
export function signalName(signum: number): string {
  checkSignal(signum);
  return NAMES[signum] ?? `SIG${signum}`;
}

/**
 * Refuses what is not a signal's number.
 *
 * @throws {RangeError} When it is not a whole number from 1 to 64.
 */
export function checkSignal(signum: number): void {
  if (!Number.isInteger(signum) || signum < 1 || signum > SIGNAL_MAX) {
    throw new RangeError(
      `Cannot use ${signum} as a signal: it takes a whole number from 1 to ${SIGNAL_MAX}`,
    );
  }
}
