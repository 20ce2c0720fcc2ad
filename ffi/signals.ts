// Signal numbers, signal(7). x86-64 and aarch64 share them.
/** The terminal is gone; daemons read their configuration again. */
export const SIGHUP = 1;
/** Control-C. */
export const SIGINT = 2;
/** Control-backslash, with a core dump. */
export const SIGQUIT = 3;
/** An illegal instruction. */
export const SIGILL = 4;
/** A debugger's trap. */
export const SIGTRAP = 5;
/** abort(3). */
export const SIGABRT = 6;
/** Another name of SIGABRT. */
export const SIGIOT = 6;
/** An access to mapped memory that has no backing. */
export const SIGBUS = 7;
/** Arithmetic that cannot be done. */
export const SIGFPE = 8;
/** Ends a process; cannot be handled. */
export const SIGKILL = 9;
/** Free for programs. */
export const SIGUSR1 = 10;
/** Memory that is not mapped. */
export const SIGSEGV = 11;
/** Free for programs. */
export const SIGUSR2 = 12;
/** A write to a pipe that nobody reads; ignored in Deno, where it is `EPIPE`. */
export const SIGPIPE = 13;
/** The time of alarm(2) is over. */
export const SIGALRM = 14;
/** The polite request to end. */
export const SIGTERM = 15;
/** Unused. */
export const SIGSTKFLT = 16;
/** A child has ended, stopped or gone on. */
export const SIGCHLD = 17;
/** Go on after a stop. */
export const SIGCONT = 18;
/** Stops a process; cannot be handled. */
export const SIGSTOP = 19;
/** Control-Z. */
export const SIGTSTP = 20;
/** A read from the terminal in the background. */
export const SIGTTIN = 21;
/** A write to the terminal in the background. */
export const SIGTTOU = 22;
/** Urgent data on a socket. */
export const SIGURG = 23;
/** RLIMIT_CPU is used up. */
export const SIGXCPU = 24;
/** RLIMIT_FSIZE is reached. */
export const SIGXFSZ = 25;
/** The time of setitimer(2), in processor time. */
export const SIGVTALRM = 26;
/** The profiling timer. */
export const SIGPROF = 27;
/** The terminal has a new size. */
export const SIGWINCH = 28;
/** A descriptor is ready, fcntl(2) `F_SETOWN`. */
export const SIGIO = 29;
/** Another name of SIGIO. */
export const SIGPOLL = 29;
/** The power fails. */
export const SIGPWR = 30;
/** A bad system call. */
export const SIGSYS = 31;

/** The first of the real-time signals that glibc leaves to programs. */
export const SIGRTMIN = 34;
/** The last of the real-time signals. */
export const SIGRTMAX = 64;

const NAMES = ("- SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 " +
  "SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP " +
  "SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR " +
  "SIGSYS").split(" ");

/** The highest signal number that the kernel knows. */
export const SIGNAL_MAX = SIGRTMAX;

/**
 * The name of a signal: `"SIGCHLD"` for 17, `"SIGRTMIN+1"` for 35.
 *
 * @param signum The signal's number, 1 to 64.
 * @throws {RangeError} When there is no such signal.
 */
export function signalName(signum: number): string {
  checkSignal(signum);
  if (signum >= SIGRTMIN) return signum === SIGRTMIN ? "SIGRTMIN" : `SIGRTMIN+${signum - SIGRTMIN}`;
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
      `Cannot use ${signum} as a signal: expected a whole number from 1 to ${SIGNAL_MAX}`,
    );
  }
}
