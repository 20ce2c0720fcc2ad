/** The page's server: its files, the catalogue, and the readers' sessions. */
import { type App, getppid, kill, readStatus, SIGTERM, StatusError } from "../../../mod.ts";
import { admission } from "./admission.ts";
import { asset } from "./assets.ts";
import { type Catalogue, loadCatalogue } from "./catalogue.ts";
import { LIMITS } from "./limits.ts";
import { Refusal, refuse } from "./refusal.ts";
import { type Session, startSession } from "./session.ts";

/** Nothing but what comes from here is loaded or run by the page. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");
const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": POLICY,
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** What the page's server is started with. */
export interface LabOptions {
  /** The address or name that it listens on. */
  readonly hostname: string;
  /** Preforking servers that may be looked at, by their masters' pids. */
  readonly servers: readonly number[];
}

/** A route. The groups of its pattern are the handler's further parameters. */
interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: RegExp;
  handle(request: Request, url: URL, ...groups: string[]): Response | Promise<Response>;
}

/**
 * Creates the app that serves the page. Sessions are its state, so one worker serves all of it.
 *
 * @param options What it is started with.
 */
export function labApp({ hostname, servers }: LabOptions): App {
  let catalogue: Catalogue;
  const admit = admission(hostname);
  const sessions = new Map<string, Session>();
  /** Sessions whose processes have not ended yet. */
  let processes = 0;

  function create(): Response {
    if (processes >= LIMITS.sessions) {
      throw new Refusal(429, `${processes} readers are here already: try again later`);
    }
    const session = startSession();
    processes++;
    sessions.set(session.id, session);
    session.ended.finally(() => {
      processes--;
      sessions.delete(session.id);
    });
    return json({ id: session.id }, 201);
  }

  function sessionOf(id: string | null): Session {
    const session = sessions.get(id ?? "");
    if (session === undefined) throw new Refusal(404, "There is no such session, or it has ended");
    return session;
  }

  /** The servers that may be looked at: this one, the given ones, and a session's own. */
  function serversOf(session: string | null): Map<number, string> {
    const names = new Map([[getppid(), "The lab's own server"]]);
    for (const pid of servers) names.set(pid, `Process ${pid}`);
    if (session !== null) {
      for (const { pid, file } of sessionOf(session).started) names.set(pid, file);
    }
    return names;
  }

  const routes: readonly Route[] = [
    { method: "GET", path: /^\/lessons\.json$/, handle: () => json(catalogue.all) },
    {
      method: "GET",
      path: /^\/source$/,
      handle: async (_, { searchParams }) => json(await catalogue.source(searchParams.get("file"))),
    },
    {
      method: "GET",
      path: /^\/diff$/,
      async handle(_, { searchParams }) {
        return json(await catalogue.difference(searchParams.get("from"), searchParams.get("to")));
      },
    },
    { method: "POST", path: /^\/sessions$/, handle: create },
    {
      method: "GET",
      path: /^\/sessions\/(\w+)\/events$/,
      handle({ headers }, _, id) {
        const last = headers.get("last-event-id");
        const stream = sessionOf(id!).stream(last === null ? undefined : Number(last) || 0);
        return new Response(stream, {
          headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
        });
      },
    },
    {
      method: "POST",
      path: /^\/sessions\/(\w+)\/actions$/,
      async handle(request, _, id) {
        const session = sessionOf(id!);
        const { status, body } = await session.act(await actionIn(request));
        return json(body, status);
      },
    },
    {
      method: "DELETE",
      path: /^\/sessions\/(\w+)$/,
      handle(_request, _url, id) {
        sessionOf(id!).end("The reader has left");
        sessions.delete(id!);
        return new Response(null, { status: 204 });
      },
    },
    {
      method: "GET",
      path: /^\/servers\.json$/,
      handle: (_, { searchParams }) =>
        json({
          servers: [...serversOf(searchParams.get("session"))]
            .filter(([pid]) => statusOf(pid) !== undefined)
            .map(([pid, name]) => ({ pid, name })),
        }),
    },
    {
      method: "GET",
      path: /^\/servers\/(\d+)\/status\.json$/,
      handle(_, { searchParams }, pid) {
        const isListed = serversOf(searchParams.get("session")).has(Number(pid));
        const status = isListed ? statusOf(Number(pid)) : undefined;
        if (status === undefined) throw new Refusal(404, `${pid} is not a server to be looked at`);
        return json(status);
      },
    },
  ];

  async function answer(request: Request): Promise<Response> {
    admit(request);
    const url = new URL(request.url);
    const method = request.method === "HEAD" ? "GET" : request.method;
    const matches = routes.flatMap((route) => {
      const match = url.pathname.match(route.path);
      return match === null ? [] : [{ route, groups: match.slice(1) }];
    });
    const found = matches.find(({ route }) => route.method === method);
    if (found !== undefined) return await found.route.handle(request, url, ...found.groups);
    if (method === "GET" && matches.length === 0) {
      return await asset(url.pathname, request.headers.get("if-none-match"));
    }
    throw new Refusal(405, `${url.pathname} does not take ${method}`);
  }

  return {
    // Not before: the program runs twice up to the call that serves.
    async onWorkerStart() {
      // A preforking server begins anew at SIGHUP, but this one's terminal has been closed.
      const master = getppid();
      if (readStatus(master).master.generation > 0) kill(master, SIGTERM);
      catalogue = await loadCatalogue();
    },
    async fetch(request) {
      const response = await answer(request).catch((error) => {
        if (error instanceof Refusal) return refuse(error);
        throw error;
      });
      for (const [name, value] of Object.entries(HEADERS)) response.headers.set(name, value);
      return response;
    },
    onListen(addr) {
      const { port } = addr as Deno.NetAddr;
      const shown = hostname.includes(":") ? `[${hostname}]` : hostname;
      console.log(`The lab is at http://${shown}:${port}/ until Control-C`);
    },
  };
}

/** The status of a preforking server; `undefined` if it is none, or has ended. */
function statusOf(pid: number): unknown {
  try {
    return readStatus(pid);
  } catch (error) {
    if (error instanceof StatusError) return undefined;
    throw error;
  }
}

async function actionIn(request: Request): Promise<object> {
  const text = await request.text();
  if (text.length > LIMITS.body) throw new Refusal(413, "The action is too long");
  let action: unknown;
  try {
    action = JSON.parse(text);
  } catch {
    throw new Refusal(400, "The action must be JSON");
  }
  if (typeof action !== "object" || action === null) {
    throw new Refusal(400, "The action must be an object");
  }
  return action;
}

function json(body: unknown, status = 200): Response {
  return Response.json(body, { status, headers: { "cache-control": "no-store" } });
}
