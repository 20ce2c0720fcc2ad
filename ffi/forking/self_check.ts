/**
 * The self-check: whether the facts that `fork()` relies on hold in the Deno that is running. It is
 * made with the first children that a program asks for, so there is never a child that nobody asked
 * for, and nothing has to be remembered from one start to the next.
 *
 * Threads and the event loop are checked before the fork. The child then has its pool do something,
 * if it has a runtime, and compares the random numbers that it draws with those that a sibling
 * would draw. Only when that is in order does it continue. No turn of an event loop fits into a
 * call of `fork()`: timers and sockets are left to the `doctor` command.
 */
import { EINTR, isSyscallError } from "../errno.ts";
import { pauseBriefly } from "../interruption.ts";
import { errno, libc } from "../libc.ts";
import { POLLIN } from "../poll.ts";
import { _exit, kill } from "../process.ts";
import { SIGKILL, signalName } from "../signals.ts";
import { SOCK_SEQPACKET, type Socket, socketpair } from "../socket.ts";
import { pollfd, timespec } from "../structs.ts";
import { decodeWaitStatus, type WaitStatus } from "../wait.ts";
import { drawNumbers, findDoubled, type Numbers } from "../runtime/entropy.ts";
import {
  describeLoop,
  type EpollInstance,
  findStrangeLoop,
  surveyEventLoop,
} from "../runtime/event_loop.ts";
import { findStrangePool } from "../runtime/pool.ts";
import { threads } from "../runtime/threads.ts";
import { findStrangeThread } from "../runtime/v8_flags.ts";

/** What tine relies on, as docs/fork.md numbers it. */
export const FACTS = {
  1: "the heap",
  2: "V8's threads",
  3: "signals",
  4: "the event loop",
  5: "random numbers",
  6: "listening sockets",
} as const;

const HEAP = 1;
const THREADS = 2;
const EVENT_LOOP = 4;
const NUMBERS = 5;

/**
 * Deno, V8 or tokio works differently inside from what tine relies on: a child could hang, crash
 * its parent, or draw the same random numbers as its siblings.
 */
export class UnsupportedRuntimeError extends Error {
  /** The name of the class. */
  override readonly name: string = "UnsupportedRuntimeError";

  /** The number in docs/fork.md of what does not hold. */
  readonly fact: 1 | 2 | 3 | 4 | 5 | 6;

  /**
   * Creates the error.
   *
   * @param fact The number in docs/fork.md of what does not hold, from 1 to 6.
   * @param problem What was found.
   */
  constructor(fact: 1 | 2 | 3 | 4 | 5 | 6, problem: string) {
    const { deno, v8 } = Deno.version;
    super(
      `Cannot fork with Deno ${deno} (V8 ${v8}): ${problem} (fact ${fact}, ${
        FACTS[fact]
      }). Use a ` +
        "version of Deno that docs/measured.md of tine lists, or a newer tine; its command doctor tells more",
    );
    this.fact = fact;
  }
}

/** How long the pool and the child may take, in milliseconds. A few are usual. */
const PATIENCE = 10_000;
/** How long a thread may take to get its name, in milliseconds. */
const NAMING = 1000;
/** The size of the longest message. */
const MESSAGE_BYTES = 4096;
const PASSED = "passed";

/**
 * How many children are tested. Where Deno draws more UUIDs in advance than expected, siblings share
 * some of them only if enough are left at the fork: that can be the second one.
 */
export const TESTED = 2;

let passed = 0;
let runtimePassed = 0;

/**
 * Whether the next child is to be tested: too few have passed, or a test is not over. A child with
 * a runtime is tested for one without as well.
 */
export function needsTest(withRuntime: boolean): boolean {
  return (withRuntime ? runtimePassed : passed) < TESTED || trials.size > 0;
}

/**
 * What fork() is told: what the event loop watches, if that is known. It returns 0 in the child.
 */
type Fork = (survey?: readonly EpollInstance[]) => number;

/** A child whose test is not over. */
interface Trial {
  readonly withRuntime: boolean;
  /** Where the child reports. */
  readonly socket: Socket;
  /** Whether the parent's event loop is as it was before the fork. */
  readonly isLoopUndisturbed: () => boolean;
}

const trials = new Map<number, Trial>();

/**
 * Forks a child and tests it.
 *
 * @param fork Forks the child.
 * @param withRuntime Whether the child has a runtime.
 * @returns What `fork` returns.
 * @throws {UnsupportedRuntimeError} If the test fails. No child is left then.
 * @throws What `fork` throws.
 */
export function forkAndTest(fork: Fork, withRuntime: boolean): number {
  const pid = forkOnTrial(fork, withRuntime);
  const trial = trials.get(pid);
  if (trial === undefined) return pid; // the child, or a parent that cannot test one now
  const report = receive(trial.socket);
  const error = conclude(pid, trial, report);
  if (error === undefined && report !== "") return pid;
  kill(pid, SIGKILL);
  const status = reap(pid);
  throw error ?? errorOfCrash(status) ?? new Error(
    "Cannot fork: the child ended before it could be tested, for the reason that it has printed",
  );
}

/**
 * Forks a child, which ends if it fails the test. The parent does not wait for that, but calls
 * {@linkcode concludeTest} when the child has ended, or has shown that it works.
 *
 * @param fork Forks the child.
 * @param withRuntime Whether the child has a runtime.
 * @returns What `fork` returns.
 * @throws {UnsupportedRuntimeError} If the parent's part of the test fails. Nothing was forked then.
 * @throws What `fork` throws.
 */
export function forkOnTrial(fork: Fork, withRuntime: boolean): number {
  const survey = checkParent(withRuntime);
  let ends: [Socket, Socket];
  try {
    ends = socketpair(SOCK_SEQPACKET);
  } catch (error) {
    if (isSyscallError(error, "EMFILE", "ENFILE")) return fork(survey); // a later child is tested
    throw error;
  }
  const [ours, theirs] = ends;
  const describe = () => survey === undefined ? "" : describeLoop(survey);
  const before = describe();
  drawNumbers(); // a source that was never drawn from has no state that two processes could share
  let pid: number | undefined;
  try {
    pid = fork(survey);
    if (pid === 0) return takeTest(ours, theirs, withRuntime);
    send(ours, JSON.stringify(drawNumbers()));
    const isLoopUndisturbed = () => describe() === before;
    trials.set(pid, { withRuntime, socket: ours, isLoopUndisturbed });
    return pid;
  } finally {
    theirs.close();
    if (pid === undefined) ours.close();
  }
}

/**
 * Waits until a child's test is over.
 *
 * @param pid The child.
 * @param status How the child ended, if it has.
 * @returns Why it failed; `undefined` if it passed, was not tested, or ended for another reason.
 */
export function concludeTest(
  pid: number,
  status?: WaitStatus,
): UnsupportedRuntimeError | undefined {
  const trial = trials.get(pid);
  if (trial === undefined) return undefined;
  const report = receive(trial.socket);
  const error = conclude(pid, trial, report);
  return report === "" ? errorOfCrash(status) : error;
}

/** Ends a trial. A child that has ended without a report has neither passed nor failed. */
function conclude(
  pid: number,
  { withRuntime, socket, isLoopUndisturbed }: Trial,
  report: string | undefined,
): UnsupportedRuntimeError | undefined {
  trials.delete(pid);
  socket.close();
  if (report === "") return undefined;
  const failure = report === undefined
    ? [EVENT_LOOP, "a child does not come to life"] as const
    : report !== PASSED
    ? JSON.parse(report) as Failure
    : isLoopUndisturbed()
    ? undefined
    : [EVENT_LOOP, "a child changes its parent's event loop"] as const;
  if (failure !== undefined) return new UnsupportedRuntimeError(...failure);
  pass(withRuntime);
}

function errorOfCrash(status: WaitStatus | undefined): UnsupportedRuntimeError | undefined {
  if (status?.kind !== "signaled" || status.signal === SIGKILL) return undefined;
  return new UnsupportedRuntimeError(HEAP, `a child ends at once, of ${signalName(status.signal)}`);
}

type Failure = readonly [fact: keyof typeof FACTS, problem: string];

function pass(withRuntime: boolean): void {
  passed++;
  if (withRuntime) runtimePassed++;
}

/**
 * Checks the threads and, for a child with a runtime, the event loop.
 *
 * @returns What the event loop watches.
 */
function checkParent(withRuntime: boolean): EpollInstance[] | undefined {
  try {
    const present = threads();
    let thread = findStrangeThread(present);
    // A thread that has just been started does not have its name yet.
    const end = performance.now() + NAMING;
    while (thread !== undefined && performance.now() < end) {
      pauseBriefly();
      thread = findStrangeThread(threads());
    }
    if (thread !== undefined) throw new UnsupportedRuntimeError(THREADS, thread);
    const survey = withRuntime ? surveyEventLoop() : undefined;
    const strange = findStrangePool(present, PATIENCE) ?? (survey && findStrangeLoop(survey));
    if (strange !== undefined) throw new UnsupportedRuntimeError(EVENT_LOOP, strange);
    return survey;
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    // A child without a runtime needs no descriptor, and no permission to read /proc.
    if (!withRuntime) return undefined;
    if (["EMFILE", "ENFILE", "EACCES"].includes(error.code)) throw error;
    throw new UnsupportedRuntimeError(EVENT_LOOP, error.message);
  }
}

/**
 * Takes the test, in a child, which ends if it fails.
 *
 * @returns 0, what `fork()` returns in a child.
 */
function takeTest(ours: Socket, theirs: Socket, withRuntime: boolean): 0 {
  let hasPassed = false;
  try {
    ours.close();
    for (const { socket } of trials.values()) socket.close();
    trials.clear();
    const hasPool = !withRuntime || isPoolAlive();
    const numbers = receive(theirs); // in any case: what is unread breaks the socket at the end
    const failure: Failure | undefined = hasPool
      ? findDoubledNumbers(numbers)
      : [EVENT_LOOP, "the pool of threads does nothing in a child"];
    if (failure === undefined) pass(withRuntime);
    send(theirs, failure === undefined ? PASSED : JSON.stringify(failure));
    hasPassed = failure === undefined;
  } finally {
    // An error too must not lead into the parent's code: its parent may have ended, for example.
    if (!hasPassed) _exit(1);
  }
  return 0;
}

function findDoubledNumbers(numbers: string | undefined): Failure | undefined {
  const siblings: Numbers = JSON.parse(numbers ?? "");
  const doubled = findDoubled(siblings);
  if (doubled === undefined) return undefined;
  return [NUMBERS, `two processes draw the same numbers from ${doubled}`];
}

/** Whether the child's pool does what it is given: to read a byte that is sent afterwards. */
function isPoolAlive(): boolean {
  let ends: [Socket, Socket];
  try {
    ends = socketpair(SOCK_SEQPACKET);
  } catch (error) {
    if (isSyscallError(error, "EMFILE", "ENFILE")) return true; // which cannot be tried
    throw error;
  }
  using from = ends[0];
  using to = ends[1];
  const byte = new Uint8Array(1);
  libc().read_on_pool(from.fileno(), byte, 1n);
  to.send(Uint8Array.of(1));
  const end = performance.now() + PATIENCE / 2;
  while (byte[0] === 0 && performance.now() < end) pauseBriefly();
  return byte[0] !== 0;
}

function send(socket: Socket, text: string): void {
  try {
    socket.send(new TextEncoder().encode(text));
  } catch (error) {
    if (!isSyscallError(error, "EPIPE", "ECONNRESET")) throw error; // receive() tells of its end
  }
}

/**
 * Waits for a message. No signal handler runs meanwhile.
 *
 * @returns The message; "" if the other process has ended; `undefined` if the time is over.
 */
function receive(socket: Socket): string | undefined {
  const request = pollfd(socket.fileno(), POLLIN);
  const end = performance.now() + PATIENCE;
  do {
    // In slices, for a signal that has no handler here may cut one short.
    if (libc().ppoll(request, 1n, timespec(0.1), null) !== 1) continue;
    try {
      return new TextDecoder().decode(socket.read(MESSAGE_BYTES));
    } catch (error) {
      if (isSyscallError(error, "ECONNRESET")) return ""; // it has ended without reading
      throw error;
    }
  } while (performance.now() < end);
}

/** Waits until a child has ended. No signal handler runs meanwhile. */
export function reap(pid: number): WaitStatus {
  const raw = new Int32Array(1);
  while (libc().waitpid(pid, raw, 0) === -1 && errno() === EINTR);
  return decodeWaitStatus(raw[0]!);
}
