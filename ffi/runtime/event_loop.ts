/**
 * Fact 4, after the fork: the child's event loop shares the parent's epoll instance, and each
 * process would take the other's events. The child gets its own instance and waker under the old
 * descriptor numbers.
 *
 * Everything else that the instance watches belongs to the parent: its sockets, its subprocesses.
 * The child must neither use it nor keep it open. It must not free the descriptor numbers either,
 * because objects in its memory still refer to them. Each descriptor is therefore replaced with a
 * socket whose other end is closed.
 */
import { O_CLOEXEC, O_NONBLOCK } from "../descriptor.ts";
import { close } from "../descriptor_calls.ts";
import { check, isSyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { architecture } from "../platform.ts";
import { readlink, readNumbers, readText } from "../proc.ts";
import { AF_UNIX } from "../address.ts";
import { SOCK_STREAM } from "../socket.ts";
import { SO_ACCEPTCONN, SOL_SOCKET } from "../socket_calls.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { leaveParking } from "./pool.ts";

const EPOLL = ASSUMPTIONS.epollLink.value;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;

/** A descriptor that an epoll instance watches. */
export interface Registration {
  readonly fd: number;
  /** The events, `EPOLLIN` and so on. */
  readonly events: number;
  /** The token that comes with the events. */
  readonly data: bigint;
}

/** A watched descriptor, and its epoll instance. */
export interface Watched extends Registration {
  /** One of the instance's descriptors. */
  readonly epoll: number;
}

/** An epoll instance: its descriptors, duplicates of one another, and what it watches. */
export interface EpollInstance {
  readonly descriptors: readonly number[];
  readonly waker: readonly Registration[];
  readonly signals: readonly Registration[];
  /** The program's own sockets, pipes and subprocesses. */
  readonly work: readonly Registration[];
}

/**
 * The descriptors of the event loop. They are surveyed in the parent, before the fork: once there
 * are two processes, the other one may change the loop during the survey.
 */
export function surveyEventLoop(): EpollInstance[] {
  const links = openDescriptors();
  const instances = new Map<string, EpollInstance>();
  for (const [fd, link] of links) {
    if (link !== EPOLL) continue;
    const registrations = registrationsOf(fd);
    const waker = registrations.filter(({ fd }) => links.get(fd) === ASSUMPTIONS.wakerLink.value);
    const signals = registrations.filter(({ fd }) => isSignalSocket(fd, links));
    // Each instance has its own waker, and so do its duplicates.
    const key = waker.length === 0 ? `epoll ${fd}` : `waker ${waker.map(({ fd }) => fd)}`;
    instances.set(key, {
      descriptors: [...instances.get(key)?.descriptors ?? [], fd],
      waker,
      signals,
      work: registrations.filter((one) =>
        links.has(one.fd) && !waker.includes(one) && !signals.includes(one)
      ),
    });
  }
  const found = [...instances.values()];
  epolls = found.map(({ descriptors }) => descriptors[0]!);
  return found;
}

// One descriptor of each instance. They are searched for once: an instance lasts as long as its
// thread, and a forked child has its own instances under the same numbers.
let epolls: readonly number[] = [];

/**
 * Returns everything that the event loop watches.
 *
 * @throws {SyscallError} `EMFILE` if no descriptor is left for the search.
 */
export function watchedDescriptors(): Watched[] {
  if (epolls.length === 0 || !epolls.every(isEpoll)) surveyEventLoop();
  return epolls.flatMap((epoll) => registrationsOf(epoll).map((one) => ({ epoll, ...one })));
}

/**
 * Returns the listening sockets that the event loop watches; none if that is not known, of which the
 * self-check of `fork()` tells.
 */
export function listeningSockets(): Watched[] {
  try {
    return watchedDescriptors().filter(({ fd }) => isListening(fd));
  } catch (error) {
    if (isSyscallError(error)) return [];
    throw error;
  }
}

/** Whether a descriptor is a socket that listens. */
export function isListening(fd: number): boolean {
  // Most are no sockets, which is no error here.
  const [value, size] = [new Int32Array(1), new Uint32Array([4])];
  return libc().getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, value, size) === 0 && value[0] === 1;
}

function isEpoll(fd: number): boolean {
  try {
    return readlink(`/proc/self/fd/${fd}`) === EPOLL;
  } catch (error) {
    if (isSyscallError(error, "ENOENT")) return false;
    throw error;
  }
}

/**
 * Gives a forked child an event loop of its own.
 *
 * @param survey The survey of the parent's event loop.
 * @throws {SyscallError} `EMFILE` if no descriptor is left for the exchange.
 */
export function rebuildEventLoop(survey: readonly EpollInstance[]): void {
  const dead = deadSocket();
  for (const { descriptors: [first, ...duplicates], waker, signals, work } of survey) {
    replace(check(libc().epoll_create1(O_CLOEXEC), "epoll_create1"), first!);
    for (const duplicate of duplicates) duplicateOnto(first!, duplicate);
    for (const { fd } of waker) {
      replace(check(libc().eventfd(0, O_CLOEXEC | O_NONBLOCK), "eventfd"), fd);
    }
    for (const registration of [...waker, ...signals]) register(first!, registration);
    for (const { fd } of work) duplicateOnto(dead, fd);
  }
  for (const fd of leaveParking()) duplicateOnto(dead, fd);
  close(dead);
}

const { epolls: EPOLLS, wakers: WAKERS, signalSockets: SIGNAL_SOCKETS } =
  ASSUMPTIONS.eventLoop.value;

/**
 * Returns how the event loop differs from what a rebuilt one would be; `undefined` if not at all.
 */
export function findStrangeLoop(survey: readonly EpollInstance[]): string | undefined {
  if (survey.some(isEventLoop)) return undefined;
  const [found] = survey;
  if (found === undefined) return "it has no epoll instance that can be recognized";
  const { descriptors, waker, signals } = found;
  return "the epoll instance of its event loop has " +
    `${descriptors.length} descriptors instead of ${EPOLLS}, and watches ` +
    `${waker.length} wakers instead of ${WAKERS} and ` +
    `${signals.length} sockets for signals instead of ${SIGNAL_SOCKETS}`;
}

function isEventLoop({ descriptors, waker, signals }: EpollInstance): boolean {
  return descriptors.length === EPOLLS && waker.length === WAKERS &&
    signals.length >= SIGNAL_SOCKETS; // a program may have a duplicate of its own socket
}

/** Returns what the event loop watches, as a text that can be compared with a later one. */
export function describeLoop(survey: readonly EpollInstance[]): string {
  return survey.filter(isEventLoop)
    .flatMap(({ descriptors: [epoll] }) => registrationsOf(epoll!))
    .map(({ fd, events, data }) => `${fd} ${events} ${data}`)
    .sort().join();
}

/** Whether the parent had sockets in use, for example idle connections of `fetch`. */
export function hasWork(survey: readonly EpollInstance[]): boolean {
  return survey.some(({ work }) => work.length > 0);
}

/** Returns what an epoll instance watches. */
export function registrationsOf(epoll: number): Registration[] {
  const info = readText(`/proc/self/fdinfo/${epoll}`);
  return [...info.matchAll(/^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)/gm)].map(
    ([, fd, events, data]) => ({
      fd: Number(fd),
      events: parseInt(events!, 16),
      data: BigInt(`0x${data}`),
    }),
  );
}

/**
 * Returns the descriptors of this process and what each refers to.
 *
 * @param fds Those to look at. The default is all.
 */
export function openDescriptors(
  fds: readonly number[] = readNumbers("/proc/self/fd"),
): Map<number, string> {
  const links = new Map<number, string>();
  for (const fd of fds) {
    try {
      links.set(fd, readlink(`/proc/self/fd/${fd}`));
    } catch (error) {
      // ENOENT: closed since the folder was read.
      if (!isSyscallError(error, "ENOENT")) throw error;
    }
  }
  return links;
}

// tokio's wake-up for signals is the one watched socket with a duplicate.
function isSignalSocket(fd: number, links: Map<number, string>): boolean {
  const link = links.get(fd);
  return link !== undefined && link.startsWith("socket:") &&
    [...links].some(([other, otherLink]) => other !== fd && otherLink === link);
}

/** Adds a descriptor to an epoll instance. */
export function register(epoll: number, { fd, events, data }: Registration): void {
  // struct epoll_event is packed on x86-64 only.
  const packed = architecture() === "x86_64";
  const event = new DataView(new ArrayBuffer(packed ? 12 : 16));
  event.setUint32(0, events, true);
  event.setBigUint64(packed ? 4 : 8, data, true);
  check(libc().epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event), "epoll_ctl", `descriptor ${fd}`);
}

/** Removes a descriptor from an epoll instance. */
export function unregister(epoll: number, fd: number): void {
  const result = libc().epoll_ctl(epoll, EPOLL_CTL_DEL, fd, null);
  check(result, "epoll_ctl", `descriptor ${fd}`);
}

/** Creates a socket on which reads return the end of the stream and writes fail. */
export function deadSocket(): number {
  const ends = new Int32Array(2);
  const type = SOCK_STREAM | O_CLOEXEC | O_NONBLOCK;
  check(libc().socketpair(AF_UNIX, type, 0, ends), "socketpair");
  close(ends[1]!);
  return ends[0]!;
}

function replace(fresh: number, fd: number): void {
  duplicateOnto(fresh, fd);
  close(fresh);
}

/** Makes a descriptor's number refer to what another descriptor refers to. */
export function duplicateOnto(fd: number, number: number): void {
  check(libc().dup3(fd, number, O_CLOEXEC), "dup3", `descriptor ${fd} to ${number}`);
}
