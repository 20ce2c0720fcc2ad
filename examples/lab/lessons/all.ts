/**
 * The lessons in the article's order. A row has what a list shows; the lesson is loaded when it is
 * wanted.
 */
import type { Lesson } from "../lesson.ts";

/** A lesson that is not loaded yet. */
export interface LessonEntry {
  readonly name: string;
  readonly title: string;
  load(): Promise<Lesson>;
}

function entry(
  name: string,
  title: string,
  load: () => Promise<{ lesson: Lesson }>,
): LessonEntry {
  return { name, title, load: async () => (await load()).lesson };
}

/** All lessons. A row's name and title are those of its lesson. */
// deno-fmt-ignore: a line each
export const LESSONS: readonly LessonEntry[] = [
  // One client at a time; sockets
  entry("3b", "One client at a time", () => import("./one_client.ts")),
  entry("backlog", "The kernel accepts connections for a server that sleeps", () => import("./backlog.ts")),
  entry("overflow", "Beyond the backlog, connecting takes longer", () => import("./overflow.ts")),
  entry("reuseaddr", "A server restarts on its port, with SO_REUSEADDR", () => import("./reuseaddr.ts")),
  entry("client", "A client only connects", () => import("./client.ts")),
  entry("client3", "A client can fork too", () => import("./client3.ts")),
  entry("ports", "Ephemeral and well-known ports", () => import("./ports.ts")),
  entry("pair", "Four values identify a connection", () => import("./pair.ts")),
  // Processes and descriptors
  entry("processes", "Every process has a parent", () => import("./processes.ts")),
  entry("descriptors", "A new file gets the lowest free number", () => import("./descriptors.ts")),
  // Forking: 3c, order, references, 3d, toomany
  entry("3c", "A child for each client", () => import("./concurrency.ts")),
  entry("order", "Parent or child first: the scheduler decides", () => import("./order.ts")),
  entry("references", "No FIN until the last copy is closed", () => import("./references.ts")),
  entry("3d", "A forgotten close() hangs the client", () => import("./hung_client.ts")),
  entry("toomany", "Too many open files", () => import("./too_many_files.ts")),
  // Children
  entry("zombies", "Zombies cannot be killed", () => import("./zombies.ts")),
  entry("eagain", "Resource temporarily unavailable", () => import("./process_limit.ts")),
  entry("wait", "wait() in the loop blocks the server", () => import("./wait_blocks.ts")),
  entry("3e", "SIGCHLD interrupts accept()", () => import("./eintr.ts")),
  entry("3f", "A burst of children leaves zombies", () => import("./burst.ts")),
  entry("3g", "A handler that leaves no zombie", () => import("./finished.ts")),
  entry("3h", "The gateway: any application on the same server", () => import("./gateway.ts")),
  // Chapter 20
  entry("zombieprob", "The zombie problem", () => import("./zombieprob.ts")),
  entry("zombiesol", "The zombie problem, solved with a signal handler", () => import("./zombiesol.ts")),
  entry("zombiepoll", "The zombie problem, solved by polling", () => import("./zombiepoll.ts")),
  entry("echo", "An echo server that reaps when it accepts", () => import("./echo.ts")),
  entry("locking", "A server whose children share a file", () => import("./locking.ts")),
  entry("flock", "Two writers, and the records that they lose", () => import("./flock.ts")),
  entry("sharedlock", "A lock that locks nothing", () => import("./shared_lock.ts")),
  entry("deadlock", "A deadlock, made and broken", () => import("./deadlock.ts")),
  entry("errors", "A failing fork() survived", () => import("./errors.ts")),
  // A web server from scratch
  entry("scratch", "A server from scratch, whose parent reads the request", () => import("./scratch.ts")),
  // Past the sources
  entry("memory", "Workers share memory until they write to it", () => import("./memory.ts")),
  entry("crash", "A killed worker costs its own requests only", () => import("./crash.ts")),
  entry("endless", "A handler in an endless loop is killed", () => import("./endless.ts")),
  entry("restart", "A restart loses no request", () => import("./restart.ts")),
  entry("random", "Children draw the same random numbers, unless fork() sees to it", () => import("./random.ts")),
];
