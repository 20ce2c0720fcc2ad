/**
 * libc for TypeScript: thin, typed system calls, and a `fork()` whose child continues to run
 * JavaScript.
 *
 * Each function does one thing, and returns its value or throws a {@linkcode SyscallError}.
 * Nothing is retried. A file or socket is a {@linkcode Descriptor}, which the caller must close.
 * Only `--allow-ffi` is required.
 *
 * @example
 * ```ts
 * import { getpid, getppid } from "@tine/tine/ffi";
 *
 * console.log(getpid(), getppid());
 * ```
 *
 * @module
 */
export {
  type Address,
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  AF_UNIX,
  formatAddress,
  type InetAddress,
  type UnixAddress,
} from "./address.ts";
export {
  Descriptor,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  open,
  pipe,
} from "./descriptor.ts";
export {
  close,
  dup2,
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  fcntl,
  FD_CLOEXEC,
  flock,
  ftruncate,
  isatty,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  lseek,
  read,
  SEEK_CUR,
  SEEK_END,
  SEEK_SET,
  write,
} from "./descriptor_calls.ts";
export { isSyscallError, SyscallError } from "./errno.ts";
export { execve } from "./execve.ts";
export { becomeForkable, type ForkableOptions, isForkable } from "./forking/become_forkable.ts";
export { forkChild, forkRuntimeChild } from "./forking/fork_child.ts";
export { fork, type ForkOptions } from "./forking/fork.ts";
export { UnsupportedRuntimeError } from "./forking/self_check.ts";
export { retryOnEintr, type SignalHandler } from "./interruption.ts";
export { MAP_ANONYMOUS, MAP_SHARED, memfd_create, mmap } from "./memory.ts";
export { UnsupportedPlatformError } from "./platform.ts";
export {
  poll,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  POLLPRI,
  POLLRDHUP,
  type PollRequest,
  type PollResult,
  ppoll,
} from "./poll.ts";
export { readlink } from "./proc.ts";
export {
  _exit,
  getgid,
  getgroups,
  getpid,
  getppid,
  getrlimit,
  getuid,
  initgroups,
  kill,
  PR_SET_CHILD_SUBREAPER,
  PR_SET_DUMPABLE,
  PR_SET_NO_NEW_PRIVS,
  PR_SET_PDEATHSIG,
  prctl,
  type ResourceLimit,
  RLIM_INFINITY,
  RLIMIT_AS,
  RLIMIT_CORE,
  RLIMIT_CPU,
  RLIMIT_FSIZE,
  RLIMIT_NOFILE,
  RLIMIT_NPROC,
  SCHED_BATCH,
  SCHED_OTHER,
  sched_setscheduler,
  setgid,
  setgroups,
  setpgid,
  setrlimit,
  setsid,
  setuid,
} from "./process.ts";
export { SIG_DFL, SIG_IGN, signal, type SignalAction } from "./signal.ts";
export {
  pthread_sigmask,
  SIG_BLOCK,
  SIG_SETMASK,
  SIG_UNBLOCK,
  sigprocmask,
} from "./signal_mask.ts";
export {
  SIGABRT,
  SIGALRM,
  SIGBUS,
  SIGCHLD,
  SIGCONT,
  SIGFPE,
  SIGHUP,
  SIGILL,
  SIGINT,
  SIGIO,
  SIGIOT,
  SIGKILL,
  signalName,
  SIGPIPE,
  SIGPOLL,
  SIGPROF,
  SIGPWR,
  SIGQUIT,
  SIGRTMAX,
  SIGRTMIN,
  SIGSEGV,
  SIGSTKFLT,
  SIGSTOP,
  SIGSYS,
  SIGTERM,
  SIGTRAP,
  SIGTSTP,
  SIGTTIN,
  SIGTTOU,
  SIGURG,
  SIGUSR1,
  SIGUSR2,
  SIGVTALRM,
  SIGWINCH,
  SIGXCPU,
  SIGXFSZ,
} from "./signals.ts";
export {
  getpeername,
  getsockname,
  getsockopt,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_V6ONLY,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_WAITALL,
  send,
  setsockopt,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  shutdown,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_RCVBUF,
  SO_RCVTIMEO,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_SNDTIMEO,
  SO_TYPE,
  SOL_SOCKET,
  TCP_NODELAY,
} from "./socket_calls.ts";
export { SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, Socket, socket, socketpair } from "./socket.ts";
export {
  alarm,
  clock_gettime,
  CLOCK_MONOTONIC,
  CLOCK_PROCESS_CPUTIME_ID,
  type IntervalTimer,
  ITIMER_PROF,
  ITIMER_REAL,
  ITIMER_VIRTUAL,
  nanosleep,
  pause,
  setitimer,
  sleep,
} from "./time.ts";
export { unlink } from "./unlink.ts";
export {
  decodeWaitStatus,
  wait,
  waitpid,
  type WaitStatus,
  WCONTINUED,
  WNOHANG,
  WUNTRACED,
} from "./wait.ts";
