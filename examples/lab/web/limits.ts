/** What readers may start, and for how long. */
export const LIMITS = {
  /** Sessions at once, of all readers. */
  sessions: 8,
  /** Event streams of one session at once: the page, and one that has not noticed its end yet. */
  streams: 4,
  /** Actions of one session that have not been answered. */
  actions: 16,
  /** Programs of one session at once. */
  programs: 4,
  /** Connections of one session at once. */
  clients: 256,
  clientsAtOnce: 128,
  /** Connections of one session, with those that have ended, until everything is stopped. */
  clientsInAll: 2048,
  /** Processes of one session at once: no more clients are sent then. */
  processes: 512,
  /** A session's time. */
  minutes: 30,
  /** How long a session goes on when nobody looks at it: a page that is reloaded comes back. */
  graceSeconds: 5,
  /** How long one action may wait. */
  waitSeconds: 60,
  /** Events that are kept for a page that connects again. */
  log: 2000,
  /** Bytes of a request's body. */
  body: 16384,
  /** Signals that can be sent. */
  signals: [
    "SIGTERM",
    "SIGKILL",
    "SIGINT",
    "SIGSTOP",
    "SIGCONT",
    "SIGCHLD",
    "SIGHUP",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
  ],
  /** Limits of processes that can be changed, by prlimit(1)'s names. */
  resources: ["nofile", "nproc"],
} as const;
