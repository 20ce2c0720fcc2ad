import {
  SIGCHLD,
  SIGHUP,
  SIGINT,
  SIGQUIT,
  SIGTERM,
  SIGTTIN,
  SIGTTOU,
  SIGUSR1,
  SIGUSR2,
} from "../../ffi/signals.ts";

/** The signals that a master handles. They must be passed to `becomeForkable()`. */
export const HANDLED_SIGNALS: readonly number[] = [
  SIGCHLD,
  SIGTERM,
  SIGINT,
  SIGQUIT,
  SIGHUP,
  SIGUSR1,
  SIGUSR2,
  SIGTTIN,
  SIGTTOU,
];
