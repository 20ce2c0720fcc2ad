/**
 * What tine assumes about Deno, V8 and tokio: everything that another version may change. The
 * other modules of this folder, and those of `ffi/forking`, use these values and no others.
 *
 * `tests/assumptions_test.ts` compares each value with the running Deno, in a test of the same
 * name. The text beside the value says what a program does if the value is wrong: some values are
 * checked when the program runs, the others only by that test.
 *
 * The list is plain data, because every program loads it when it starts.
 */

/** A value, and what happens if it is wrong. */
interface Assumption {
  readonly value: unknown;
  /** What a program does if Deno differs. */
  readonly otherwise: string;
}

/** The shape of an object of Deno. Using a property that is not on the list is a type error. */
export type Listed<
  Names extends readonly PropertyKey[],
  Shape extends { [Name in keyof Shape]: Name extends Names[number] ? unknown : never },
> = Shape;

/** The list. */
export const ASSUMPTIONS = {
  /** V8 maps its heap so that a child does not inherit it: the flag in `/proc/self/smaps`. */
  heapFlag: {
    value: "dc",
    otherwise: "forkWithHeap() removes a flag that is not set, which is harmless",
  },
  /** The beginning of the names of the worker threads that Deno creates for V8. */
  v8WorkerName: {
    value: "V8 ",
    otherwise: "a process may fork while one of them holds a lock: a child occasionally hangs",
  },
  /**
   * The offset of the thread id in libc's record of a thread, in bytes, counted from the list of
   * robust mutexes.
   */
  threadRecord: {
    value: -16,
    otherwise: "V8's worker threads are not recognized: becomeForkable() has V8 do without them",
  },
  /** The beginning of the name of the thread that Deno creates to watch files. */
  fileWatcherName: {
    value: "notify-rs",
    otherwise: "Deno.watchFs() may never return in a child if it was called before the first fork",
  },
  /** What `/proc/self/fd` shows for an instance of inotify. */
  inotifyLink: {
    value: "anon_inode:inotify",
    otherwise: "fork({ runtime: true }) throws under --watch, as if it were too early",
  },
  /** The environment variable from which Deno reads flags for V8 when it starts. */
  v8FlagsVariable: {
    value: "DENO_V8_FLAGS",
    otherwise:
      "becomeForkable() throws: even after the program was run again, V8 has worker threads",
  },
  /**
   * Makes V8 wait for no other thread. It is not spelled with a hyphen: if Deno finds that text, it
   * chooses another platform of V8's, whose tasks it does not run: no FinalizationRegistry.
   */
  singleThreaded: {
    value: "--single_threaded",
    otherwise: "V8 reports an unknown flag, and children hang",
  },
  /** Makes Deno choose the other platform, on which V8 has no worker threads. */
  withoutWorkers: {
    value: "--single-threaded",
    otherwise:
      "becomeForkable() throws: even after the program was run again, V8 has worker threads",
  },
  /** Makes V8 compile functions when it reads them, instead of in every child that calls them. */
  noLazy: {
    value: "--no-lazy",
    otherwise: "V8 reports an unknown flag, and children are slower",
  },
  /**
   * In megabytes. Each child later moves the objects that are in the young generation at the fork,
   * and its new objects are in memory that it does not share: the young generation is kept small.
   */
  smallNursery: {
    value: "--max-semi-space-size=4",
    otherwise: "V8 reports an unknown flag, and children use more memory",
  },
  /** Programs that cannot be run again, by the names that Deno gives their modules. */
  typedPrograms: {
    value: { "$deno$stdin": "standard input", "$deno$repl": "the REPL" },
    otherwise: "becomeForkable() runs a consumed program again: it ends without output",
  },
  /** How many seconds after its start Deno handles signals even if the program listens to none. */
  signalsAfter: {
    value: 0.5,
    otherwise:
      "an error message of fork() gives wrong advice; the kernel's state is checked in any case",
  },

  /** The beginning of the names of the threads of tokio's blocking pool, in different versions. */
  poolThreadNames: {
    value: ["tokio-runtime", "tokio-rt"],
    otherwise: "fork({ runtime: true }) does not park them: the child's first file operation hangs",
  },
  /** The maximum number of threads in the pool. */
  poolSize: {
    value: 32,
    otherwise: "children may be able to create fewer threads than fork({ runtime: true }) ensures",
  },
  /** The number of seconds after which an idle thread of the pool ends. */
  poolIdleSeconds: {
    value: 10,
    otherwise: "an error message of fork() gives wrong advice",
  },
  /** The system call in which threads of the pool, and V8's worker threads, wait for work. */
  idleCall: {
    value: "futex",
    otherwise: "fork({ runtime: true }) throws: its threads did not become idle",
  },
  /** Deno reports an uncaught exception only after the threads of its pool have ended. */
  poolEndsBeforeReport: {
    value: true,
    otherwise: "a child without a runtime does needless work before it ends with an error",
  },

  /**
   * The event loop of a thread: the number of descriptors of its epoll instance, of descriptors
   * with which other threads wake it, and of sockets that wake it for signals. Those are the only
   * watched sockets with a duplicate.
   */
  eventLoop: {
    value: { epolls: 2, wakers: 1, signalSockets: 1 },
    otherwise: "a child receives the parent's events, or its event loop does not wake up",
  },
  /**
   * The numbers of the system calls in which other threads wait. On x86-64 and aarch64: futex,
   * read, recvfrom, poll and ppoll, epoll_wait and epoll_pwait, nanosleep and clock_nanosleep.
   */
  waitingCalls: {
    value: [202, 98, 0, 63, 45, 207, 7, 271, 73, 232, 281, 22, 35, 101, 230, 115],
    otherwise: "fork({ runtime: true }) throws: its threads did not become idle",
  },
  /** What `/proc/self/fd` shows for an epoll instance. */
  epollLink: {
    value: "anon_inode:[eventpoll]",
    otherwise: "acceptFrom() and takeOverConnection() throw; children receive the parent's events",
  },
  /** What it shows for the waker. */
  wakerLink: {
    value: "anon_inode:[eventfd]",
    otherwise: "a child's event loop is not woken by its own threads",
  },
  /** The events for which a listener waits: EPOLLIN and EPOLLET, both allowed on a shared one. */
  listenerEvents: {
    value: 0x8000_0001,
    otherwise: "a worker is not told about connections, or repeatedly about the same one",
  },
  /**
   * The events for which a listener of Node's waits, apart from EPOLLRDHUP, which a shared one may
   * not wait for: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP and EPOLLET.
   */
  nodeListenerEvents: {
    value: 0x8000_001d,
    otherwise: "a worker is not told about connections, or repeatedly about the same one",
  },
  /** A property of Deno's internal object that it gets with the first module of Node's. */
  nodeLoaded: {
    value: "__bootstrapNodeProcess",
    otherwise: "a program that listens with node:http listens in the master, which is refused",
  },
  /**
   * Node's `net.Server`: a property that only it has, which its constructor assigns; the method that
   * listens, once the arguments are known; and where its listening socket is.
   */
  nodeServer: {
    value: { own: "_usingWorkers", listen: "_listen2", handle: "_handle", path: "_pipeName" },
    otherwise: "a program that listens with node:http listens in the master, which is refused",
  },
  /** `node:cluster`: a property that no other object has, which it assigns before its `fork`. */
  nodeCluster: {
    value: { own: "SCHED_NONE", fork: "fork" },
    otherwise: "a program that uses node:cluster starts servers that outlive tine's",
  },
  /**
   * The property of Deno's internal object that it gets with `node:child_process`, and the channel of
   * `node:diagnostics_channel` that tells of each `ChildProcess` before it starts its process.
   */
  nodeSubprocess: {
    value: { loaded: "__setupChildProcessIpcChannel", channel: "child_process" },
    otherwise: "subprocesses of node:child_process block the signals that their parent holds",
  },
  /** `fetch` keeps a connection open after the response, for the next request. */
  fetchKeepsConnections: {
    value: true,
    otherwise: "a child's fetch gets a client of its own needlessly",
  },

  /** The number of UUIDs that Deno draws at a time, at most, to return them one by one. */
  uuidsAtOnce: {
    value: 128,
    otherwise: "a parent and its child may draw the same UUIDs",
  },
  /** The newest version of Deno in which they were counted: 128 since 2.9.3, 16 before. */
  uuidsCounted: {
    value: "2.9.6",
    otherwise: "each fork discards more UUIDs than it needs to",
  },
  /** The number of bytes that Deno's random number generator draws at a time. */
  randomBlock: {
    value: 256,
    otherwise: "a parent and its child may draw the same numbers from crypto.getRandomValues()",
  },
  /** The source text of V8's `Math.random()`. Any other is a replacement by the program. */
  nativeRandom: {
    value: "function random() { [native code] }",
    otherwise: "Math.random() counts as replaced by the program: siblings draw the same numbers",
  },

  /**
   * The names that Deno gives its resources, by what they are. A name may have a module's path before
   * it.
   */
  resourceNames: {
    value: {
      connection: ["tcpStream", "tlsStream", "unixStream"],
      datagramSocket: ["udpSocket", "unixDatagram", "nodeUdpSocket"],
      webSocket: ["serverWebSocket"],
      response: ["fetchResponse"],
      subprocess: ["child"],
      kv: ["database"],
      cron: ["cron"],
      fileWatcher: ["fsEvents"],
      signal: ["signal"],
      broadcastChannel: ["InMemoryBroadcastChannelResource"],
    },
    otherwise: "the preforking server does not tell that an app holds such a resource at the fork",
  },
  /** The beginning of the name of a Web Worker's thread. */
  webWorkerName: {
    value: "worker-",
    otherwise: "the preforking server takes the thread of a Web Worker for a native add-on's",
  },
  /** The name of the thread that runs the queries of a KV database. */
  kvThreadName: {
    value: "sw-",
    otherwise: "the preforking server takes this thread for a native add-on's",
  },
  /** The end of the path of the KV database that a program opens without a path. */
  kvFile: {
    value: "kv.sqlite3",
    otherwise: "the preforking server tells of it twice",
  },
  /** The end of the names of Deno's own databases, its caches, before a number. */
  cacheName: {
    value: "_cache_v",
    otherwise: "the preforking server tells that an app holds these databases at the fork",
  },
  /**
   * Node's `net.Socket`: a property that only it has, which its constructor assigns, and its method
   * that connects.
   */
  nodeSocket: {
    value: { own: "_pendingEncoding", connect: "connect" },
    otherwise: "the preforking server does not tell where an app has opened a socket of Node's",
  },
  /**
   * A socket of an agent of `node:http`: an event to which the agent listens, and the property that
   * has the socket's request, `null` while the agent keeps the socket for a later one.
   */
  nodeAgent: {
    value: { event: "agentRemove", request: "_httpMessage" },
    otherwise: "the first request in a worker fails if the agent kept the connection at the fork",
  },
  /** The method with which `node:process` shows its sockets. */
  nodeHandles: {
    value: "_getActiveHandles",
    otherwise:
      "the preforking server does not tell that an app holds a socket of Node's at the fork",
  },
  /** The functions and objects for timers in Deno's core, reached through `Deno.internal`. */
  coreTimers: {
    value: ["createTimer", "cancelTimer", "immediateQueue", "clearImmediate"],
    otherwise: "the public functions clear the timers one by one, or the parent's run in a child",
  },
  /** The properties of a core timer: its number, delay, callback, neighbors and interval. */
  coreTimer: {
    value: ["_timerId", "_idleTimeout", "_onTimeout", "_idlePrev", "_idleNext", "_repeat"],
    otherwise: "the public functions clear the timers one by one, or the parent's run in a child",
  },
  /** The number of the first timer. Later ones count up from it. */
  firstTimer: {
    value: 1,
    otherwise: "becomeForkable() looks for earlier timers that do not exist",
  },
  /** The property of a list of timers that holds their common delay, in milliseconds. */
  listDuration: {
    value: "msecs",
    otherwise: "the public functions clear the timers one by one, or the parent's run in a child",
  },
  /** The parts of a Node timer: the core timer, and two methods under symbols. */
  nodeTimer: {
    value: { timer: "_timer", create: "createTimer", destroy: "destroy" },
    otherwise: "the public functions clear the timers one by one, or the parent's run in a child",
  },
  /**
   * A property that only Node timers have, which their constructor assigns, and the modules that set
   * them for their caller, as the stack shows them.
   */
  nodeTimerSet: {
    value: { own: "_timerArgs", modules: "(?:ext:deno_node/(?:internal/)?|node:)timers" },
    otherwise: "the preforking server does not tell that an app has set a timer",
  },
  /** The function with which a timer clears the date that Node's servers cache. */
  dateReset: {
    value: "resetCache",
    otherwise: "a Node server in a child may send the same date forever",
  },

  /** What Deno uses to initialize `node:process`, which reads the pid. */
  nodeProcess: {
    value: {
      start: "__bootstrapNodeProcess",
      hasStarted: "__nodeProcessBootstrapped",
      with: "__nodeBootstrapArgs",
    },
    otherwise: "process.pid is the parent's pid in a child whose parent has loaded node:process",
  },

  /**
   * The environment variable that has `deno run` serve the main module's default export, its value,
   * and what tells that call of `Deno.serve()` by its options, after which Deno immediately adds
   * signal listeners: a symbol, or else an address that is none.
   */
  autoServe: {
    value: { name: "DENO_AUTO_SERVE", value: "1", symbol: "kLoadBalanced", hostname: null },
    otherwise: "Deno warns that an app should be served, or serves it in the master, too",
  },

  /**
   * The property of Deno's internal object that has the symbol of an option: the function that
   * chooses the certificate of a TLS server. A server that has inherited the option calls it.
   */
  certificateChoice: {
    value: "resolverSymbol",
    otherwise: "several certificates on one address are refused, or only the first one is used",
  },

  /** The symbol under which a TCP connection tells its descriptor. */
  connectionDescriptor: {
    value: "Deno.internal.fd",
    otherwise:
      "with --proxy-protocol, descriptors of connections are searched for, which costs more",
  },

  /** The symbol of a request's internal state, and the properties of that state. */
  requestInside: {
    value: {
      symbol: "request",
      properties: ["header", "headerList", "url", "body", "remoteAddr", "close"],
    },
    otherwise: "the public interface is used, which costs more; a WebSocket counts as idle",
  },
  /** The symbol of a response's internal state, and the property of that state. */
  responseInside: {
    value: { symbol: "response", properties: ["body"] },
    otherwise: "the response counts as a stream of unknown length",
  },
  /** The properties of an internal body: the data, its length, and all ways to read it. */
  bodyInside: {
    value: ["streamOrStatic", "length", "stream", "consume", "unusable", "createProxy"],
    otherwise: "request bodies are read without limits; those of responses have an unknown length",
  },
  /** The symbol of a response's body if the body is a string. */
  fastBody: {
    value: "serve fast body",
    otherwise: "the response counts as a stream of unknown length",
  },
  /** The symbol of a WebSocket's role, and the roles of a server and a client. */
  webSocketRole: {
    value: { symbol: "[[role]]", server: 0, client: 1 },
    otherwise: "a client that sends while a server stops may not hear why its WebSocket ends",
  },
  /**
   * Versions in which a read of a request's body never ends if it began before Deno writes a part
   * of the response: https://github.com/denoland/deno/issues/36624.
   */
  lostReads: {
    value: ["2.8.3", "2.9.0", "2.9.1", "2.9.2", "2.9.3", "2.9.4", "2.9.5"],
    otherwise: "an app that responds while it reads never ends, or waits for a turn needlessly",
  },
} as const satisfies Record<string, Assumption>;
