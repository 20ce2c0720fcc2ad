/** What apps need beside their packages: a certificate, databases. */
import { DatabaseSync } from "node:sqlite";
import { certificate, until } from "../support.ts";
import type { Need } from "./list.ts";

/** What an app gets to find it. */
export type Environment = Record<string, string>;

/** Why an app cannot be tried here, in one line. */
export class Missing extends Error {}

/** The services that run, each started when the first app needs it. */
export class Services implements AsyncDisposable {
  readonly #folder: string;
  readonly #running = new Map<Need, { env: Environment; process: Deno.ChildProcess }>();

  /** @param folder A folder of its own. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Gives an app what it needs: files in its folder, or a running server. */
  async provide(need: Need, app: string): Promise<Environment> {
    if (need === "certificate") {
      await certificate(app);
      return {};
    }
    if (need === "users.db") {
      fillUsers(`${app}/foobar.db`);
      return {};
    }
    let service = this.#running.get(need);
    if (service === undefined) {
      service = need === "Redis" ? await this.#startRedis() : await this.#startPostgres();
      this.#running.set(need, service);
    }
    return service.env;
  }

  async #startRedis() {
    const port = freePort();
    const folder = `${this.#folder}/redis`;
    Deno.mkdirSync(folder);
    const process = spawn(
      find(["redis-server"]),
      ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder, "--save", ""],
    );
    await until(() => isReachable(port), "Redis");
    return { process, env: { REDIS_URL: `redis://127.0.0.1:${port}` } };
  }

  async #startPostgres() {
    const port = freePort();
    const folder = `${this.#folder}/postgres`;
    const versions = listFolder("/usr/lib/postgresql").map((name) =>
      `/usr/lib/postgresql/${name}/bin`
    );
    const program = (name: string) => find([...versions.map((path) => `${path}/${name}`), name]);
    Deno.mkdirSync(folder);
    // It refuses to run as root.
    const isRoot = Deno.uid() === 0;
    const as = isRoot ? ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] : [];
    if (isRoot) await run("chown", ["nobody:nogroup", folder], folder);
    const postgres = (name: string, args: string[]): [string, string[]] => {
      const [command, ...rest] = [...as, program(name), ...args];
      return [command!, rest];
    };
    const data = `${folder}/data`;
    await run(
      ...postgres("initdb", ["-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]),
      folder,
    );
    const process = spawn(
      ...postgres("postgres", ["-D", data, "-p", `${port}`, "-h", "127.0.0.1", "-k", folder, "-F"]),
      folder,
    );
    const env = { PGHOST: "127.0.0.1", PGPORT: `${port}`, PGUSER: "postgres" };
    const psql = [...["-q", "-h", folder, "-p", `${port}`, "-U", "postgres", "-c"], USERS];
    await until(
      () => run(program("psql"), psql, folder).then(() => true, () => false),
      "PostgreSQL",
      30_000,
    );
    return { process, env };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { process } of this.#running.values()) {
      process.kill("SIGINT"); // PostgreSQL's "fast shutdown"
      await process.status;
    }
  }
}

const USERS = `CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace') ON CONFLICT DO NOTHING`;

/** The database of an app that opens a file. */
function fillUsers(file: string): void {
  const database = new DatabaseSync(file);
  database.exec(USERS);
  database.close();
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function isReachable(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch {
    return false;
  }
}

/** Returns the first of these programs that is there. */
function find(programs: readonly string[]): string {
  const found = programs.find((program) => {
    try {
      const command = new Deno.Command(program, { args: ["--version"], stdout: "null" });
      return command.outputSync().success;
    } catch {
      return false;
    }
  });
  if (found === undefined) throw new Missing(`There is no ${programs.at(-1)} on this machine`);
  return found;
}

function listFolder(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].map(({ name }) => name);
  } catch {
    return [];
  }
}

function spawn(command: string, args: string[], cwd?: string): Deno.ChildProcess {
  const options: Deno.CommandOptions = { args, stdin: "null", stdout: "null", stderr: "null" };
  return new Deno.Command(command, cwd === undefined ? options : { ...options, cwd }).spawn();
}

async function run(command: string, args: string[], cwd: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, cwd }).output();
  if (!success) throw new Error(`${command}: ${new TextDecoder().decode(stderr)}`);
}
