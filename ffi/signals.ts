// Signal numbers, signal(7), the same on x86-64 and aarch64.
/** The terminal has hung up; for daemons, a request to reload the configuration. */
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
/** An arithmetic error. */
export const SIGFPE = 8;
/** Kill the process; cannot be handled. */
export const SIGKILL = 9;
/** For use by programs. */
export const SIGUSR1 = 10;
/** An access to memory that is not mapped. */
export const SIGSEGV = 11;
/** For use by programs. */
export const SIGUSR2 = 12;
/** A write to a pipe without readers. Deno ignores it, so that the write fails with `EPIPE`. */
export const SIGPIPE = 13;
/** The time of alarm(2) has expired. */
export const SIGALRM = 14;
/** A request to terminate. */
export const SIGTERM = 15;
/** Unused. */
export const SIGSTKFLT = 16;
/** A child has ended, stopped or continued. */
export const SIGCHLD = 17;
/** Continue after a stop. */
export const SIGCONT = 18;
/** Stop the process; cannot be handled. */
export const SIGSTOP = 19;
/** Control-Z. */
export const SIGTSTP = 20;
/** A background process reads from the terminal. */
export const SIGTTIN = 21;
/** A background process writes to the terminal. */
export const SIGTTOU = 22;
/** Urgent data on a socket. */
export const SIGURG = 23;
/** RLIMIT_CPU is exceeded. */
export const SIGXCPU = 24;
/** RLIMIT_FSIZE is exceeded. */
export const SIGXFSZ = 25;
/** A timer of setitimer(2) in processor time has expired. */
export const SIGVTALRM = 26;
/** The profiling timer of setitimer(2) has expired. */
export const SIGPROF = 27;
/** The terminal has a new size. */
export const SIGWINCH = 28;
/** A descriptor is ready, fcntl(2) `F_SETOWN`. */
export const SIGIO = 29;
/** Another name of SIGIO. */
export const SIGPOLL = 29;
/** A power failure. */
export const SIGPWR = 30;
/** A bad system call. */
export const SIGSYS = 31;

/** The first of the real-time signals that programs can use with glibc. */
export const SIGRTMIN = 34;
/** The last of the real-time signals. */
export const SIGRTMAX = 64;

const NAMES = ("- SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 " +
  "SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP " +
  "SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR " +
  "SIGSYS").split(" ");

/** The highest signal number of the kernel. */
export const SIGNAL_MAX = SIGRTMAX;

/**
 * Returns the name of a signal: `"SIGCHLD"` for 17, `"SIGRTMIN+1"` for 35.
 *
 * @param signum The signal's number, 1 to 64.
 * @throws {RangeError} If there is no such signal.
 */
export function signalName(signum: number): string {
  checkSignal(signum);
  if (signum >= SIGRTMIN) return signum === SIGRTMIN ? "SIGRTMIN" : `SIGRTMIN+${signum - SIGRTMIN}`;
  return NAMES[signum] ?? `SIG${signum}`;
}

/**
 * Rejects a value that is not a signal number.
 *
 * @throws {RangeError} If it is not a whole number from 1 to 64.
 */
export function checkSignal(signum: number): void {
  if (!Number.isInteger(signum) || signum < 1 || signum > SIGNAL_MAX) {
    throw new RangeError(
      `Cannot use ${signum} as a signal: expected a whole number from 1 to ${SIGNAL_MAX}`,
    );
  }
}
