// Starts three servers and a balancer before them on this machine, and tries what happens to
// a strict client's requests when releases are deployed and servers fail:
//
//     deno run -A examples/cluster/cluster.ts --balancer haproxy --requests 200000
//
// It needs tine, haproxy or nginx, bash and curl in the path. Its exit code is 0 if each
// scenario ends as it must.
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    balancer: { type: "string", default: "haproxy" },
    /** Of the rolling deployment; each other scenario takes a tenth. */
    requests: { type: "string", default: "20000" },
    workers: { type: "string", default: "2" },
    "drain-delay": { type: "string", default: "2" },
    scenario: { type: "string", multiple: true },
  },
});
const HERE = import.meta.dirname!;
const NAMES = ["a", "b", "c"];
const folder = Deno.makeTempDirSync({ prefix: "cluster_" });
const orders = `${folder}/orders`;
const servers = NAMES.map((name) => `${folder}/${name}`);
// The configuration's own may be in use.
const ports = { front: freePort(), app: freePort(), admin: freePort() };
const url = `http://127.0.0.1:${ports.front}/`;

/** Returns a port that is free on all addresses, and that no client gets for its end. */
function freePort(): number {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    try {
      Deno.listen({ port }).close();
      return port;
    } catch {
      // in use
    }
  }
}

/** Writes the folders of the servers and of the releases. Release 0 cannot be loaded. */
function prepare(): void {
  for (let release = 0; release <= 9; release++) {
    const path = `${folder}/release-${release}`;
    Deno.mkdirSync(path);
    Deno.copyFileSync(`${HERE}/app.ts`, `${path}/app.ts`);
    if (release > 0) Deno.writeTextFileSync(`${path}/release.txt`, `${release}\n`);
  }
  servers.forEach((server, i) => {
    Deno.mkdirSync(server);
    const config = Deno.readTextFileSync(`${HERE}/tine.json`)
      .replaceAll("127.0.0.2", `127.0.0.${i + 2}`)
      .replace('"port": 8000', `"port": ${ports.app}`)
      .replace(":9000", `:${ports.admin}`)
      .replace('"workers": 2', `"workers": ${Number(values.workers)}`)
      .replace('"drainDelay": 2', `"drainDelay": ${Number(values["drain-delay"])}`);
    Deno.writeTextFileSync(`${server}/tine.json`, config);
  });
  Deno.writeTextFileSync(orders, "");
}

/** Starts a balancer with its configuration file, but on ports that are free. */
async function startBalancer(): Promise<Deno.ChildProcess> {
  const name = values.balancer === "nginx" ? "nginx.conf" : "haproxy.cfg";
  const config = Deno.readTextFileSync(`${HERE}/${name}`)
    .replaceAll(/(127\.0\.0\.[234]):8000/g, `$1:${ports.app}`)
    .replaceAll("port 9000", `port ${ports.admin}`)
    .replaceAll("127.0.0.1:8080", `127.0.0.1:${ports.front}`);
  const file = `${folder}/${name}`;
  Deno.writeTextFileSync(file, config);
  const [command, ...args] = values.balancer === "nginx"
    ? ["nginx", "-p", folder, "-c", file, "-g", "daemon off;", "-e", `${folder}/error.log`]
    : ["haproxy", "-db", "-f", file];
  const path = `${Deno.env.get("PATH")}:/usr/sbin`; // where Debian has them
  const balancer = new Deno.Command("setsid", {
    args: [command!, ...args],
    env: { PATH: path },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  await until(async () => (await fetch(url)).ok);
  return balancer;
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 60_000;
  while (!await Promise.resolve().then(condition).catch(() => false)) {
    if (performance.now() > end) throw new Error(`Waited in vain for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Runs the deployment script. Returns whether it succeeded. */
async function deploy(how: string, release: number, ...where: string[]): Promise<boolean> {
  const { success } = await new Deno.Command(`${HERE}/deploy.sh`, {
    args: [how, `${folder}/release-${release}`, ...where.length === 0 ? servers : where],
    env: { ORDERS: orders, SETTLE: balancer === undefined ? "0" : values["drain-delay"] },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  return success;
}

interface Result {
  requests: number;
  failures: Record<string, number>;
  answers: Record<string, number>;
  orders: string[];
  webSockets: { messages: number; moves: number };
  seconds: number;
  slowestMs: number;
}

/** A running client. */
class Client {
  #printed = "";
  readonly #process: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;

  constructor(requests: number) {
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-lock", "-N", `${HERE}/client.ts`, url, "--requests", `${requests}`],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#stdin = this.#process.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const piece of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      this.#printed += piece;
    }
  }

  /** Whether its requests are under way. */
  get hasBegun(): boolean {
    return /^begun$/m.test(this.#printed);
  }

  /** Whether it has sent as many requests as it has to. */
  get hasEnough(): boolean {
    return /^enough$/m.test(this.#printed);
  }

  /** Says that from now on no other release may answer, or that any may. */
  async expect(release: number | "any"): Promise<void> {
    await this.#stdin.write(new TextEncoder().encode(`release ${release}\n`));
  }

  /** Has it finish. */
  async end(): Promise<Result> {
    await this.#stdin.close();
    await this.#reading;
    return JSON.parse(this.#printed.trim().split("\n").at(-1)!);
  }
}

/** The part of a server's status that this program needs. */
interface Status {
  master: { pid: number };
  admin: { pid: number };
  workers: { pid: number; state: string }[];
}

async function status(server: string): Promise<Status> {
  const address = `127.0.0.${servers.indexOf(server) + 2}:${ports.admin}`;
  return await (await fetch(`http://${address}/status.json`)).json();
}

/** Whether the workers that were replaced have ended. */
async function hasSettled(server: string): Promise<boolean> {
  const { workers } = await status(server);
  return workers.length === Number(values.workers) &&
    workers.every(({ state }) => state === "ready");
}

let balancer: Deno.ChildProcess | undefined;
let release = 1;
let failed = false;

/**
 * Runs a client while something happens.
 *
 * @param most How many requests and WebSockets may fail.
 */
async function scenario(
  name: string,
  requests: number,
  most: number,
  happen: (client: Client) => Promise<void>,
): Promise<void> {
  if (values.scenario !== undefined && !values.scenario.includes(name)) return;
  await restore();
  Deno.writeTextFileSync(orders, "");
  const client = new Client(requests);
  await until(() => client.hasBegun);
  await happen(client);
  await until(() => client.hasEnough);
  const result = await client.end();
  const carriedOut = Deno.readTextFileSync(orders).split("\n").slice(0, -1);
  const twice = carriedOut.length - new Set(carriedOut).size;
  const lost = new Set(result.orders).difference(new Set(carriedOut)).size;
  const failures = Object.values(result.failures).reduce((sum, count) => sum + count, 0);
  if (failures > most || lost > most || twice > 0) failed = true;
  const { webSockets, seconds, slowestMs } = result;
  console.log(`
${name}: ${result.requests} requests in ${seconds} s, ${failures} failed; the slowest took ${slowestMs} ms
  orders: ${result.orders.length}, ${lost} not carried out, ${twice} carried out twice
  WebSockets: ${webSockets.messages} messages, ${webSockets.moves} moved to another worker
  answered by: ${list(result.answers)}`);
  if (failures > 0) console.log(`  failed: ${list(result.failures)}`);
}

/** Writes counts in one line. */
function list(counts: Record<string, number>): string {
  return Object.entries(counts).sort().map(([what, count]) => `${what}: ${count}`).join(", ");
}

async function roll(how: string, client: Client): Promise<void> {
  do {
    release = release % 9 + 1;
    await client.expect("any");
    if (!await deploy(how, release)) failed = true;
    await until(async () => (await Promise.all(servers.map(hasSettled))).every(Boolean));
    await client.expect(release);
    await new Promise((resolve) => setTimeout(resolve, 500));
  } while (!client.hasEnough);
}

/** Brings all servers to the same release again. */
async function restore(): Promise<void> {
  for (const server of servers) {
    if (!await hasSettled(server).catch(() => false)) await deploy("restart", release, server);
  }
}

const requests = Number(values.requests);
const few = Math.ceil(requests / 10);
/** The client's connections and WebSockets: what can be in flight. */
const inFlight = 16 + 8;

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => {
    stop();
    Deno.removeSync(folder, { recursive: true });
    Deno.exit(1);
  });
}
prepare();
try {
  if (!await deploy("restart", release)) throw new Error("The servers do not start");
  balancer = await startBalancer();
  await scenario("reload", requests, 0, (client) => roll("reload", client));
  await scenario("restart", requests, 0, (client) => roll("restart", client));
  await scenario("broken", few, 0, async (client) => {
    await client.expect(release);
    if (await deploy("reload", 0)) failed = true;
    if (await deploy("restart", 0)) failed = true;
  });
  await scenario("killed", few, inFlight, async () => {
    const { master, admin, workers } = await status(servers[1]!);
    for (const { pid } of [master, admin, ...workers]) Deno.kill(pid, "SIGKILL");
  });
  await scenario("hung", few, inFlight, async () => {
    const answer = await fetch(`${url}hang`);
    await answer.body?.cancel();
    console.log(`\nThe request that hangs gets ${answer.status}`);
  });
} finally {
  stop();
  await until(() => pids().length === 0);
  Deno.removeSync(folder, { recursive: true });
}
Deno.exit(failed ? 1 : 0);

/** The pids of the servers that run. */
function pids(): number[] {
  return servers.flatMap((server) => {
    try {
      const pid = Number(Deno.readTextFileSync(`${server}/tine.pid`));
      Deno.kill(pid, 0 as unknown as Deno.Signal);
      return [pid];
    } catch {
      return [];
    }
  });
}

function stop(): void {
  for (const pid of pids()) Deno.kill(pid, "SIGQUIT");
  balancer?.kill("SIGTERM");
}
