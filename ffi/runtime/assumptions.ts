/**
 * What tine takes for granted about Deno, V8 and tokio: all that another version may have changed.
 * The modules around this one, and `ffi/forking`, use these values and have no others.
 *
 * `tests/assumptions_test.ts` compares each value with what the running Deno shows, in a test of the
 * same name. What stands beside the value is what a running program has against one that is wrong:
 * a check, or nothing but that test.
 *
 * The list is data, for every program loads it when it starts.
 */

/** A value, and what there is against its being wrong. */
interface Assumption {
  readonly value: unknown;
  /** What a program does where Deno differs. */
  readonly otherwise: string;
}

/** A shape of Deno's, of which no more is used than the list has: else it is a type error. */
export type Listed<
  Names extends readonly PropertyKey[],
  Shape extends { [Name in keyof Shape]: Name extends Names[number] ? unknown : never },
> = Shape;

/** The list. */
export const ASSUMPTIONS = {
  /** V8 maps its heap so that a child does not inherit it: the flag that `/proc/self/smaps` shows. */
  heapFlag: {
    value: "dc",
    otherwise: "forkWithHeap() takes away a flag that is not there, which is harmless",
  },
  /** How the names of the worker threads begin that Deno makes for V8. */
  v8WorkerName: {
    value: "V8 ",
    otherwise: "a process may fork while one of them holds a lock: now and then a child hangs",
  },
  /** Where Deno reads flags for V8, at its start. */
  v8FlagsVariable: {
    value: "DENO_V8_FLAGS",
    otherwise: "becomeForkable() throws: run again from its start, V8 waits for its own threads",
  },
  /**
   * Has V8 do without worker threads. Not spelled with an underscore: Deno looks for this text, and
   * keeps a platform with such threads where it does not find it.
   */
  singleThreaded: {
    value: "--single-threaded",
    otherwise: "becomeForkable() throws: run again from its start, V8 has worker threads",
  },
  /** Has functions compiled once, where they are read, and not by every child that calls them first. */
  noLazy: {
    value: "--no-lazy",
    otherwise: "V8 complains of a flag that it does not know, and children are slower",
  },
  /**
   * Megabytes. What is young when a process forks is moved later, once in each child, and each
   * child allocates in memory that it shares with none: so that is kept small.
   */
  smallNursery: {
    value: "--max-semi-space-size=4",
    otherwise: "V8 complains of a flag that it does not know, and children take more memory",
  },
  /** Programs that cannot be run again, by what Deno calls their modules. */
  typedPrograms: {
    value: { "$deno$stdin": "standard input", "$deno$repl": "the REPL" },
    otherwise: "becomeForkable() runs a program again that is used up: it ends without a word",
  },
  /** How many seconds after its start Deno begins to handle signals that no program listens to. */
  signalsAfter: {
    value: 0.5,
    otherwise: "an error message of fork() gives the wrong advice; the kernel is asked in any case",
  },

  /** How the names of the threads of tokio's blocking pool begin: of one version or another. */
  poolThreadNames: {
    value: ["tokio-runtime", "tokio-rt"],
    otherwise: "fork({ runtime: true }) parks none of them: the child's first file operation hangs",
  },
  /** How many threads the pool may have. */
  poolSize: {
    value: 32,
    otherwise: "children may have fewer threads than fork({ runtime: true }) makes sure of",
  },
  /** After how many seconds a thread of the pool ends that has had nothing to do. */
  poolIdleSeconds: {
    value: 10,
    otherwise: "an error message of fork() gives the wrong advice",
  },
  /** The system call in which it waits for something to do, and so do V8's worker threads. */
  idleCall: {
    value: "futex",
    otherwise: "fork({ runtime: true }) throws: its threads did not come to rest",
  },
  /** Deno tells of an uncaught exception only when the threads of its pool have ended. */
  poolEndsBeforeReport: {
    value: true,
    otherwise: "a child without a runtime takes a detour before it ends with an error",
  },

  /**
   * The event loop of a thread: the descriptors of its epoll instance, what wakes it from other
   * threads, and the sockets that wake it for signals, the watched ones that have a duplicate.
   */
  eventLoop: {
    value: { epolls: 2, wakers: 1, signalSockets: 1 },
    otherwise: "a child takes the parent's events, or its event loop sleeps on",
  },
  /**
   * System calls in which any other thread waits, by their numbers. On x86-64 and aarch64: futex,
   * read, recvfrom, poll and ppoll, epoll_wait and epoll_pwait, nanosleep and clock_nanosleep.
   */
  waitingCalls: {
    value: [202, 98, 0, 63, 45, 207, 7, 271, 73, 232, 281, 22, 35, 101, 230, 115],
    otherwise: "fork({ runtime: true }) throws: its threads did not come to rest",
  },
  /** What an epoll instance is in `/proc/self/fd`. */
  epollLink: {
    value: "anon_inode:[eventpoll]",
    otherwise:
      "takeOverListener() and takeOverConnection() throw; children take the parent's events",
  },
  /** What the waker is there. */
  wakerLink: {
    value: "anon_inode:[eventfd]",
    otherwise: "a child's event loop does not hear from its own threads",
  },
  /** The events that a listener waits for, of those that a shared one may: EPOLLIN and EPOLLET. */
  listenerEvents: {
    value: 0x8000_0001,
    otherwise: "a worker does not hear of connections, or over and over of the same one",
  },
  /** `fetch` keeps a connection after the response, for the next request. */
  fetchKeepsConnections: {
    value: true,
    otherwise: "a child's fetch has a client of its own without need",
  },

  /** How many UUIDs Deno draws at once, and hands out one by one. */
  uuidsAtOnce: {
    value: 128,
    otherwise: "a parent and its child may draw the same UUIDs",
  },
  /** How many bytes Deno's generator of random numbers draws at once. */
  randomBlock: {
    value: 256,
    otherwise: "a parent and its child may draw the same numbers from crypto.getRandomValues()",
  },
  /** V8's `Math.random()`, as a text: another one is the program's own. */
  nativeRandom: {
    value: "function random() { [native code] }",
    otherwise: "Math.random() is taken for the program's own: siblings draw the same numbers",
  },

  /** What Deno's core offers for timers, where `Deno.internal` leads to it. */
  coreTimers: {
    value: ["createTimer", "cancelTimer", "immediateQueue", "clearImmediate"],
    otherwise: "the public timers are used and cleared one by one, or the parent's run in a child",
  },
  /** What a timer of the core knows: its number, how long it lasts, what it calls, its neighbors. */
  coreTimer: {
    value: ["_timerId", "_idleTimeout", "_onTimeout", "_idlePrev", "_idleNext"],
    otherwise: "the public timers are used and cleared one by one, or the parent's run in a child",
  },
  /** The number of the first timer: the others count up from there. */
  firstTimer: {
    value: 1,
    otherwise: "becomeForkable() looks for timers from before that are none",
  },
  /** What a list of timers is told when it is made: how long they last, in milliseconds. */
  listDuration: {
    value: "msecs",
    otherwise: "the public timers are used and cleared one by one, or the parent's run in a child",
  },
  /** What one of Node's timers is made of: the core's timer, and two methods under symbols. */
  nodeTimer: {
    value: { timer: "_timer", create: "createTimer", destroy: "destroy" },
    otherwise: "the public timers are used and cleared one by one, or the parent's run in a child",
  },
  /** The function with which a timer empties the date that Node's servers keep. */
  dateReset: {
    value: "resetCache",
    otherwise: "a child's server of Node's may send the same date for ever",
  },

  /** What Deno keeps for its own start of `node:process`, which reads the pid. */
  nodeProcess: {
    value: {
      start: "__bootstrapNodeProcess",
      hasStarted: "__nodeProcessBootstrapped",
      with: "__nodeBootstrapArgs",
    },
    otherwise: "process.pid is the parent's in a child whose parent has loaded node:process",
  },

  /** The symbol under which a request has its inside, and what there is. */
  requestInside: {
    value: { symbol: "request", properties: ["header", "headerList", "body", "remoteAddr"] },
    otherwise: "the public way is taken, which costs more; a WebSocket counts as idle",
  },
  /** The symbol under which a response has its inside, which has this. */
  responseInside: {
    value: { symbol: "response", properties: ["body"] },
    otherwise: "the response counts as a stream of unknown length",
  },
  /** What either has of a body: where it is, how long it is, and all ways to read it. */
  bodyInside: {
    value: ["streamOrStatic", "length", "stream", "consume", "createProxy"],
    otherwise: "a body is read without limits; that of a response is one of unknown length",
  },
  /** The symbol under which a response has a body that is a text. */
  fastBody: {
    value: "serve fast body",
    otherwise: "the response counts as a stream of unknown length",
  },
  /**
   * Versions in which a read of a request's body never ends that has begun before Deno writes a part
   * of the response: https://github.com/denoland/deno/issues/36624.
   */
  lostReads: {
    value: ["2.8.3", "2.9.0", "2.9.1", "2.9.2", "2.9.3", "2.9.4", "2.9.5"],
    otherwise: "an app that answers while it reads never ends, or waits for a turn without need",
  },
} as const satisfies Record<string, Assumption>;
