/** The apps that are served, and what cannot be had. */

/** A request: a method and a path, and a body if there is one. */
export interface Asked {
  /** Such as `GET /`. */
  readonly line: string;
  /** What is sent; its type stands before it. */
  readonly body?: readonly [type: string, text: string];
}

/** What an app needs beside its packages. */
export type Need = "certificate" | "PostgreSQL" | "Redis" | "users.db";

/** A mode in which tine serves. */
export type Mode = "preload" | "--no-preload";

/** How tine refuses an app. */
export interface Refusal {
  /** The options with which it does. */
  readonly options: readonly string[];
  /** What it says. */
  readonly says: RegExp;
  /** What stands in the table. */
  readonly cell: string;
}

/** An app: the folder beside this file that has its name is what a user has. */
export interface App {
  /** Its folder. */
  readonly name: string;
  /** What it is, in the table. */
  readonly title: string;
  /** The package whose version stands in the table. */
  readonly package?: string;
  /** The module. */
  readonly main: string;
  /** How Deno runs it: `deno run -A main.js`, or `deno serve app.ts`. */
  readonly by: "run" | "serve";
  /** Where it listens. `deno serve` gets a free port. */
  readonly port?: number;
  /** Flags that Deno needs to run it. */
  readonly flags?: readonly string[];
  /** The program's own arguments. */
  readonly args?: readonly string[];
  readonly needs?: readonly Need[];
  /** Has to be built: takes longer, and is left out unless it is asked for. */
  readonly isBuilt?: true;
  /** Whether `npm install` has to install it: `deno install` cannot. */
  readonly byNpm?: true;
  /** Whether the installed command serves it, and not that of the checkout. */
  readonly byInstalled?: true;
  /** What is asked, of plain Deno and of tine. */
  readonly requests: readonly Asked[];
  /**
   * A request whose body the app reads before it answers. It is under way when the server is told
   * to stop.
   */
  readonly slow?: Asked;
  /** Whether it also answers over a WebSocket. */
  readonly webSocket?: true;
  /** Headers that differ from request to request, in lower case. */
  readonly volatile?: readonly string[];
  /** The modes in which it cannot be served. */
  readonly refused?: Readonly<Partial<Record<Mode, Refusal>>>;
}

const get = (...paths: string[]): Asked[] => paths.map((path) => ({ line: `GET ${path}` }));

const post = (path: string, type: string, text: string): Asked => ({
  line: `POST ${path}`,
  body: [type, text],
});

/** All of them, as the table in docs/measured.md has them. */
export const APPS: readonly App[] = [
  {
    name: "hono",
    title: "Hono, `export default`, JSX",
    package: "hono",
    main: "app.tsx",
    by: "serve",
    byInstalled: true,
    requests: [...get("/", "/api/hello", "/none"), post("/posts", "text/plain", "one")],
  },
  {
    name: "hono_serve",
    title: "Hono, `Deno.serve()`, JSX, files",
    package: "hono",
    main: "main.tsx",
    by: "run",
    port: 8000,
    requests: get("/", "/page", "/static/hello.txt", "/none"),
  },
  {
    name: "oak",
    title: "Oak",
    package: "@oakserver/oak",
    main: "main.ts",
    by: "run",
    port: 8080,
    requests: get("/", "/none"),
  },
  {
    name: "express",
    title: "Express 5",
    package: "express",
    main: "main.js",
    by: "run",
    port: 3000,
    byInstalled: true,
    requests: [...get("/", "/static/hello.txt", "/none"), post("/", "text/plain", "one")],
  },
  {
    name: "fastify",
    title: "Fastify",
    package: "fastify",
    main: "main.js",
    by: "run",
    port: 3000,
    requests: [...get("/", "/none"), post("/", "application/json", '{"a":[1,2,3]}')],
    slow: post("/", "application/json", '{"a":[1,2,3]}'),
  },
  {
    name: "koa",
    title: "Koa",
    package: "koa",
    main: "main.js",
    by: "run",
    port: 3000,
    requests: get("/", "/none"),
  },
  {
    name: "h3",
    title: "h3",
    package: "h3",
    main: "server.mjs",
    by: "run",
    port: 3000,
    requests: [...get("/", "/none"), post("/echo", "text/plain", "once more")],
    slow: post("/echo", "text/plain", "once more"),
  },
  {
    name: "itty_router",
    title: "itty-router",
    package: "itty-router",
    main: "app.ts",
    by: "serve",
    requests: get("/hello/you", "/json", "/promises", "/none"),
  },
  {
    name: "elysia",
    title: "Elysia",
    package: "elysia",
    main: "main.ts",
    by: "run",
    port: 3000,
    requests: [...get("/", "/user/7", "/none"), post("/form", "application/json", '{"a":1}')],
    slow: post("/form", "application/json", '{"a":1}'),
  },
  {
    name: "graphql_yoga",
    title: "GraphQL Yoga",
    package: "graphql-yoga",
    main: "main.js",
    by: "run",
    port: 4000,
    requests: [
      ...get("/graphql?query=%7Bhello%7D", "/none"),
      post("/graphql", "application/json", '{"query":"{ hello }"}'),
      post("/graphql", "application/json", '{"query":"{ none }"}'),
    ],
    slow: post("/graphql", "application/json", '{"query":"{ hello }"}'),
  },
  {
    name: "trpc",
    title: "tRPC, fetch adapter",
    package: "@trpc/server",
    main: "main.ts",
    by: "run",
    port: 8000,
    requests: get(
      "/trpc/userById?input=%221%22",
      "/trpc/userById?input=1",
      "/trpc/userById,userById?batch=1&input=%7B%220%22%3A%221%22%2C%221%22%3A%222%22%7D",
    ),
  },
  {
    name: "node_http",
    title: "`node:http`",
    main: "main.js",
    by: "run",
    port: 3000,
    requests: get("/", "/any?thing"),
  },
  {
    name: "node_https",
    title: "`node:https`",
    main: "main.js",
    by: "run",
    port: 8000,
    needs: ["certificate"],
    requests: get("/", "/any?thing"),
  },
  {
    name: "nitro",
    title: "Nitro, `node-server`",
    package: "nitropack",
    main: ".output/server/index.mjs",
    by: "run",
    port: 3000,
    isBuilt: true,
    byNpm: true,
    requests: get("/", "/api/hello", "/none"),
  },
  {
    name: "sveltekit",
    title: "SvelteKit, adapter-node",
    package: "@sveltejs/kit",
    main: "build/index.js",
    by: "run",
    port: 3000,
    isBuilt: true,
    requests: get("/", "/api/hello?name=you", "/robots.txt", "/none"),
  },
  {
    name: "astro",
    title: "Astro, node standalone",
    package: "astro",
    main: "dist/server/entry.mjs",
    by: "run",
    port: 4321,
    isBuilt: true,
    byNpm: true,
    requests: get("/", "/robots.txt", "/none"),
  },
  {
    name: "next",
    title: "Next.js, standalone",
    package: "next",
    main: ".next/standalone/server.js",
    by: "run",
    flags: ["--unstable-detect-cjs"], // its main file is CommonJS, and its package.json does not say so
    port: 3000,
    isBuilt: true,
    byNpm: true,
    requests: get("/", "/api", "/none"),
  },
  {
    name: "react_router",
    title: "React Router, react-router-serve",
    package: "@react-router/serve",
    main: "node_modules/@react-router/serve/bin.cjs",
    by: "run",
    args: ["./build/server/index.js"],
    port: 3000,
    isBuilt: true,
    byNpm: true,
    requests: get("/", "/none"),
  },
  {
    name: "pg",
    title: "`pg`, a `Pool`",
    package: "pg",
    main: "app.js",
    by: "run",
    port: 3000,
    needs: ["PostgreSQL"],
    requests: get("/users/1", "/users/2"),
  },
  {
    name: "pg_client",
    title: "`pg`, a `Client` connected at the top level",
    package: "pg",
    main: "main.js",
    by: "run",
    port: 3000,
    needs: ["PostgreSQL"],
    requests: get("/"),
    refused: {
      preload: {
        options: ["--strict"],
        says: /^error: Cannot serve main\.js with --strict:[^]*connection to 127\.0\.0\.1:\d+/m,
        cell: "told",
      },
    },
  },
  {
    name: "ioredis",
    title: "`ioredis`",
    package: "ioredis",
    main: "main.js",
    by: "run",
    port: 3000,
    needs: ["Redis"],
    requests: get("/set", "/get"),
  },
  {
    name: "node_sqlite",
    title: "`node:sqlite`, in memory",
    main: "main.js",
    by: "run",
    port: 3000,
    requests: get("/"),
  },
  {
    name: "better_sqlite3",
    title: "`better-sqlite3`, a file",
    package: "better-sqlite3",
    main: "main.js",
    by: "run",
    port: 3000,
    needs: ["users.db"],
    requests: get("/"),
  },
  {
    name: "sharp",
    title: "`sharp`, used at the top level",
    package: "sharp",
    main: "main.js",
    by: "run",
    port: 3000,
    requests: get("/"),
    // The threads that libvips starts for it have no copies in the workers, which may wait for them.
    refused: {
      preload: {
        options: ["--strict"],
        says: /^error: Cannot serve main\.js with --strict:[^]*threads? [^]*sharp/m,
        cell: "told",
      },
    },
  },
  {
    name: "jose",
    title: "`jose`",
    package: "jose",
    main: "main.ts",
    by: "run",
    port: 8000,
    requests: get("/"),
  },
  {
    name: "ws",
    title: "`ws`",
    package: "ws",
    main: "main.js",
    by: "run",
    port: 8080,
    requests: get("/"),
    webSocket: true,
  },
];
