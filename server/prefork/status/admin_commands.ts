/**
 * The pages of the admin socket that change something: `POST /reload`, `/stop`, `/scale?workers=N`
 * and `/logs/reopen`. The admin process only passes the command on to the master.
 */
import { type Scoreboard, SLOTS } from "../scoreboard.ts";

/** Passes a command on to the master. */
export type TellMaster = (command: string) => void;

/** An answer: the status, the text, and further headers. */
export type CommandAnswer = readonly [number, string, Record<string, string>?];

/** The pages, and what the master is told. */
const COMMANDS: Readonly<Record<string, (query: URLSearchParams) => string | undefined>> = {
  "/reload": () => "reload",
  "/stop": (query) => query.has("now") ? "stop now" : "stop",
  "/scale": (query) => {
    const workers = query.get("workers") ?? "";
    const isPossible = /^\d{1,3}$/.test(workers) && +workers >= 1 && +workers <= SLOTS / 2;
    return isPossible ? `scale ${Number(workers)}` : undefined;
  },
  "/logs/reopen": () => "reopen logs",
};

/** The header that a page of another site cannot have a browser send, unless it is allowed to. */
const HEADER = "x-requested-with";

/**
 * Answers a request for one of the pages.
 *
 * @param scoreboard The server's scoreboard.
 * @param request The request.
 * @param tellMaster Passes a command on; `undefined` if commands are not accepted, because anybody
 *   who can reach the socket can connect to it.
 * @returns The answer; `undefined` if it is a request for another page.
 */
export function answerCommand(
  scoreboard: Scoreboard,
  { method, url, headers }: Request,
  tellMaster: TellMaster | undefined,
): CommandAnswer | undefined {
  const { pathname, searchParams } = new URL(url);
  const understand = Object.hasOwn(COMMANDS, pathname) ? COMMANDS[pathname] : undefined;
  if (understand === undefined) return undefined;
  if (method !== "POST") return [405, "The method must be POST\n", { allow: "POST" }];
  if (tellMaster === undefined) return [403, NOT_HERE];
  if (!headers.has(HEADER)) return [403, NO_HEADER];
  const command = understand(searchParams);
  if (command === undefined) return [400, `Expected ?workers=N, from 1 to ${SLOTS / 2}\n`];
  if (scoreboard.draining && command !== "stop now") {
    // To be told a second time would end it at once.
    return command === "stop" ? [202, "It is stopping already\n"] : [409, "It is stopping\n"];
  }
  tellMaster(command);
  return [202, "The master has been told. /status.json shows the outcome\n"];
}

const NOT_HERE =
  "Over TCP, the admin socket only shows the status. Start the server with --admin " +
  "PATH, a UNIX socket, or run tine on its machine\n";
const NO_HEADER =
  "The header X-Requested-With is missing, with any value: it shows that no page in " +
  "a browser has sent this\n";
