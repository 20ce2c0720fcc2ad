/**
 * The same files under tine and under what people run them with: `node:cluster` in Node, Deno and
 * Bun, one Deno per port, and Bun's own server. Two processes each.
 */
import { type Contest, type Contestant, contestant } from "./contest.ts";
import {
  denoServeParallel,
  type HttpServer,
  prefork,
  processTree,
  type RunningServer,
  start,
} from "./http_servers.ts";
import { keepAlive, keepAliveOnEach } from "./load.ts";
import { proportionalSetSize } from "./memory.ts";
import { type CommandLine, here, isThere } from "./peers.ts";

const PROCESSES = 2;
const WARM_UP = 1;
const SECONDS = 2;

/** The programs that listen themselves, and what they are called. */
const PROGRAMS = {
  "express.js": "Express 5",
  "fastify.js": "Fastify",
  "node_http.js": "node:http",
};

/** The contests. Packages are installed into `folder`, Bun's among them. */
export function apps(folder: string): Contest[] {
  const place = install(folder);
  const app = (file: string) => `${place}/${file}`;
  const bun = `${place}/node_modules/bun/bin/bun.exe`;
  const fetchApp = app("fetch.js");
  const fetchPeers = [
    prefork(fetchApp, PROCESSES),
    denoServeParallel(fetchApp, PROCESSES),
    twoOfBun(bun, app("bun.js"), fetchApp),
  ];
  const node = isThere("node") ? `node:cluster, Node ${versionOf("node")}` : undefined;
  const programs = Object.entries(PROGRAMS).map(([file, name]): Contest => {
    const cluster = (label: string, ...command: CommandLine) =>
      listening(label, ...command, app("cluster.js"), app(file), `${PROCESSES}`);
    return {
      title: `${name}, connections kept`,
      unit: "requests per second",
      better: "more",
      contestants: [
        underLoad(prefork(app(file), PROCESSES)),
        ...node === undefined ? [] : [underLoad(cluster(node, "node"))],
        underLoad(cluster("node:cluster, Deno", Deno.execPath(), "run", "--allow-all")),
        underLoad(cluster("node:cluster, Bun", bun)),
        onPortsOfTheirOwn(listening("", Deno.execPath(), "run", "--allow-all", app(file))),
      ],
      goals: [
        ...node === undefined ? [] : [{ of: "tine", to: node, atLeast: 2 }],
        { of: "tine", to: "node:cluster, Deno", atLeast: 1.2 },
        { of: "tine", to: SEPARATE, atLeast: 0.95 },
      ],
    };
  });
  return [
    {
      title: "a fetch app, connections kept",
      unit: "requests per second",
      better: "more",
      contestants: fetchPeers.map(underLoad),
      goals: [{ of: "tine", to: "deno serve --parallel", atLeast: 1.08 }],
    },
    ...programs,
    {
      title: "the smallest app, after a second of requests",
      unit: "MB, of all processes",
      better: "less",
      contestants: fetchPeers.map((server) => contestant(server.label, () => memoryOf(server))),
    },
  ];
}

const SEPARATE = "deno run, a port for each";

function versionOf(program: string): string {
  const { stdout } = new Deno.Command(program, { args: ["--version"] }).outputSync();
  return new TextDecoder().decode(stdout).trim().replace(/^v/, "");
}

/** Copies the programs into a folder, with their packages. */
function install(folder: string): string {
  const place = `${folder}/apps`;
  Deno.mkdirSync(place);
  for (const { name } of Deno.readDirSync(here("apps"))) {
    Deno.copyFileSync(here(`apps/${name}`), `${place}/${name}`);
  }
  const { success, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet", "--no-lock", "--allow-scripts=npm:bun"],
    cwd: place,
  }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return place;
}

/** A program that listens on `$PORT`. */
function listening(label: string, ...line: CommandLine): HttpServer {
  return { label, commandLine: (port) => ["env", `PORT=${port}`, ...line] };
}

/** Bun's server, in processes that share a port with SO_REUSEPORT. */
function twoOfBun(bun: string, program: string, app: string): HttpServer {
  const one = `'${bun}' '${program}' '${app}'`;
  const script = `${Array(PROCESSES).fill(`${one} &`).join(" ")} wait`;
  return listening(`Bun ${versionOf(bun)}`, "sh", "-c", script);
}

function underLoad(server: HttpServer): Contestant {
  return contestant(server.label, async () => {
    await using running = await start(server);
    // The same load as onPortsOfTheirOwn() makes.
    const ports = Array(PROCESSES).fill(running.port);
    await keepAliveOnEach(ports, WARM_UP);
    const { perSecond, errors } = await keepAliveOnEach(ports, SECONDS);
    if (errors > 0) console.error(`${server.label}: ${errors} errors`);
    return perSecond;
  });
}

/** As many processes, each with a port and a load of its own: nothing is shared. */
function onPortsOfTheirOwn(server: HttpServer): Contestant {
  return contestant(SEPARATE, async () => {
    await using all = new AsyncDisposableStack();
    const running: RunningServer[] = [];
    for (let i = 0; i < PROCESSES; i++) running.push(all.use(await start(server)));
    const ports = running.map(({ port }) => port);
    await keepAliveOnEach(ports, WARM_UP);
    return (await keepAliveOnEach(ports, SECONDS)).perSecond;
  });
}

async function memoryOf(server: HttpServer): Promise<number> {
  await using running = await start(server);
  await keepAlive(running.port, WARM_UP);
  return proportionalSetSize(processTree(running.pid)) / 1024;
}
