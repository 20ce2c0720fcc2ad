/** The pages of the admin socket: the status of a preforking server over HTTP. */
import { ADMIN, type Scoreboard } from "../scoreboard.ts";
import { type Status, statusOf } from "./status.ts";
import { answerCommand, type TellMaster } from "./admin_commands.ts";
import { formatJson, formatPrometheus } from "./format.ts";
import { formatTable } from "./table.ts";

/**
 * Creates the `fetch` handler of the admin socket:
 *
 * | page | answer |
 * | --- | --- |
 * | `/` | a page for a browser, which follows the status; for others, the table that the status command prints |
 * | `/status.json` | the same as JSON, see {@linkcode Status} |
 * | `/metrics` | the same for Prometheus |
 * | `/healthz` | 200 while at least one worker is ready and the server is not stopping, else 503 |
 * | `/readyz` | the same, and 503 until the server has started with all of its workers |
 * | `/reload`, ... | `POST` changes something, see {@linkcode answerCommand} |
 *
 * @param scoreboard The server's scoreboard, in shared memory.
 * @param isAdmitted Returns whether a request's host is admitted. Others get 403.
 * @param tellMaster Passes a command on to the master; `undefined` if none are accepted.
 * @returns The handler.
 */
export function adminHandler(
  scoreboard: Scoreboard,
  isAdmitted: (request: Request) => boolean,
  tellMaster?: TellMaster,
): (request: Request) => Response | Promise<Response> {
  return (request) => {
    if (!isAdmitted(request)) return plain(NOT_ADMITTED, 403);
    const answer = answerCommand(scoreboard, request, tellMaster);
    if (answer !== undefined) return plain(answer[1], answer[0], answer[2]);
    const { method, url } = request;
    const page = PAGES[new URL(url).pathname];
    if (page === undefined) {
      return plain(`There is no such page. The pages are: ${Object.keys(PAGES).join(" ")}\n`, 404);
    }
    if (method !== "GET" && method !== "HEAD") {
      return plain("The method must be GET\n", 405, { allow: "GET, HEAD" });
    }
    return page(scoreboard, request);
  };
}

const NOT_ADMITTED = "This host is not admitted: ask for localhost or the address, or start the " +
  "server with --admin-host NAME\n";

type Page = (scoreboard: Scoreboard, request: Request) => Response | Promise<Response>;

const PAGES: Readonly<Record<string, Page>> = {
  "/": (scoreboard, { headers }) => {
    const status = statusOf(scoreboard);
    // All browsers say so, and curl does not.
    return /\btext\/html\b/.test(headers.get("accept") ?? "")
      ? html(status)
      : plain(formatTable(status), 200, VARYING);
  },
  "/status.json": (scoreboard) =>
    plain(formatJson(statusOf(scoreboard)), 200, { "content-type": "application/json" }),
  "/metrics": (scoreboard) =>
    plain(formatPrometheus(statusOf(scoreboard)), 200, {
      "content-type": "text/plain; version=0.0.4; charset=utf-8",
    }),
  // Requested often, so it reads only the shared memory.
  "/healthz": (scoreboard) => answerHealth(unhealthiness(scoreboard)),
  "/readyz": (scoreboard) =>
    answerHealth(
      unhealthiness(scoreboard) ??
        (scoreboard.reloaded === 0 ? "The server has not completely started" : undefined),
    ),
};

/** Returns why a load balancer should send nothing here; `undefined` if it should. */
function unhealthiness({ draining, slots }: Scoreboard): string | undefined {
  if (draining) return "draining";
  return slots.some(({ number, state }) => number !== ADMIN && state === "ready")
    ? undefined
    : "No worker is ready";
}

function answerHealth(problem: string | undefined): Response {
  return problem === undefined ? plain("ok\n") : plain(`${problem}\n`, 503);
}

const VARYING = { vary: "accept" };

async function html(status: Status): Promise<Response> {
  const { formatPage, HEADERS } = await import("./page/page.ts"); // when somebody looks
  return plain(formatPage(status), 200, { ...VARYING, ...HEADERS });
}

function plain(body: string, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "cache-control": "no-store",
      // The pages contain URLs that clients chose.
      "x-content-type-options": "nosniff",
      ...headers,
    },
  });
}
