/** The system call that a process is in: `/proc/PID/syscall` and the names of its numbers. */
import { readProc } from "./proc_file.ts";

/** A system call and its arguments. */
export interface SystemCall {
  readonly name: string;
  /** As in registers: numbers and addresses. */
  readonly args: readonly bigint[];
}

/** Numbers on x86-64 and aarch64 of the calls that programs of the lab wait in, or may be seen in. */
const NUMBERS: Record<string, readonly [x86_64: number, aarch64: number]> = {
  accept: [43, 202],
  accept4: [288, 242],
  bind: [49, 200],
  clock_nanosleep: [230, 115],
  clone: [56, 220],
  clone3: [435, 435],
  close: [3, 57],
  connect: [42, 203],
  dup2: [33, -1],
  dup3: [292, 24],
  epoll_pwait: [281, 22],
  epoll_pwait2: [441, 441],
  epoll_wait: [232, -1],
  execve: [59, 221],
  exit: [60, 93],
  exit_group: [231, 94],
  fcntl: [72, 25],
  fdatasync: [75, 83],
  flock: [73, 32],
  fork: [57, -1],
  fsync: [74, 82],
  futex: [202, 98],
  kill: [62, 129],
  listen: [50, 201],
  madvise: [28, 233],
  mmap: [9, 222],
  mprotect: [10, 226],
  munmap: [11, 215],
  nanosleep: [35, 101],
  open: [2, -1],
  openat: [257, 56],
  pause: [34, -1],
  pipe2: [293, 59],
  poll: [7, -1],
  ppoll: [271, 73],
  pread64: [17, 67],
  pselect6: [270, 72],
  pwrite64: [18, 68],
  read: [0, 63],
  readv: [19, 65],
  recvfrom: [45, 207],
  recvmsg: [47, 212],
  restart_syscall: [219, 128],
  rt_sigprocmask: [14, 135],
  rt_sigsuspend: [130, 133],
  rt_sigtimedwait: [128, 137],
  sched_yield: [24, 124],
  select: [23, -1],
  sendmsg: [46, 211],
  sendto: [44, 206],
  shutdown: [48, 210],
  socket: [41, 198],
  vfork: [58, -1],
  wait4: [61, 260],
  waitid: [247, 95],
  write: [1, 64],
  writev: [20, 66],
};

const COLUMN = Deno.build.arch === "aarch64" ? 1 : 0;
const NAMES = new Map(Object.entries(NUMBERS).map(([name, numbers]) => [numbers[COLUMN], name]));

/**
 * The system call that a process's main thread is in. `undefined` if it is in none, or if this
 * process must not see it.
 */
export function systemCallOf(pid: number): SystemCall | undefined {
  const [number, ...args] = readProc(`/proc/${pid}/syscall`)?.trim().split(" ") ?? [];
  if (number === undefined || !/^\d+$/.test(number)) return undefined; // "running", or -1: in none
  const name = NAMES.get(Number(number)) ?? `system call ${number}`;
  return { name, args: args.slice(0, 6).map(BigInt) };
}

/** The only descriptor that a call of ppoll(2) waits for; `undefined` if there are more or none. */
export function polledDescriptor(pid: number, { name, args }: SystemCall): number | undefined {
  if (!/^p?poll$/.test(name) || args[1] !== 1n) return undefined;
  try {
    using memory = Deno.openSync(`/proc/${pid}/mem`);
    memory.seekSync(args[0]!, Deno.SeekMode.Start);
    const pollfd = new Int32Array(2);
    memory.readSync(new Uint8Array(pollfd.buffer));
    return pollfd[0];
  } catch {
    return undefined;
  }
}
