/** Serves real apps, unchanged, and keeps the table in docs/measured.md of them. */
import { parseArgs } from "@std/cli/parse-args";
import { cleaningUp } from "../clean_up.ts";
import { DENO, ROOT } from "../support.ts";
import { fail, print } from "../task.ts";
import { versionOf } from "./folder.ts";
import { type App, APPS } from "./list.ts";
import { Services } from "./services.ts";
import { formatTable, parseTable, replaceTable, type Row } from "./table.ts";
import { type Outcome, tryApp } from "./trial.ts";

const HELP = `Serves real apps, unchanged, and compares them with plain Deno, byte by byte.

Usage: deno task test:apps [options]

  --only NAME,...  these only
  --keep FOLDER    installs and builds the apps in this folder, and takes from it what an
                   earlier run has made of the same files; without it, in a temporary one
  --write          writes the table of docs/measured.md anew
  --list           shows what there is
  --help           this text

An app is a folder beside tests/apps/list.ts, copied to a place of its own, where npm
or Deno installs its packages. Deno runs it first, then tine serve with two workers:
with preloading, and with --no-preload. Each time

  answers       all answers are those of plain Deno
  both workers  both have answered
  HUP           the code is loaded again, without a failed request
  kill -9       a worker is replaced
  TERM          requests under way are answered
  nothing left  no process, no port, no file

What an app needs beside its packages is started for it: PostgreSQL and Redis, from
Debian's packages. An app's own port must be free.

An app that does worse than the table of docs/measured.md says is tried twice.

An app takes ten seconds or so. The last line is "N passed, N failed": an app counts once
for each mode. What the table of docs/measured.md says that fails counts as neither.`;

const PAGE = new URL("docs/measured.md", ROOT);

async function main(): Promise<number> {
  const options = parseArgs(Deno.args, {
    string: ["only", "keep"],
    boolean: ["write", "list", "help"],
    unknown(argument: string) {
      fail(`There is no ${argument}; --help shows what there is`);
    },
  }) as { only?: string; keep?: string; write: boolean; list: boolean; help: boolean };
  if (options.help) return print(HELP);
  const apps = options.only === undefined ? APPS : options.only.split(",").map(find);
  if (options.list) return print(apps.map(describe).join("\n"));
  if (options.write && options.only !== undefined) fail("--write takes all apps");

  const folder = Deno.makeTempDirSync({ prefix: "tine_apps_" });
  using _ = cleaningUp(() => Deno.removeSync(folder, { recursive: true }));
  Deno.chmodSync(folder, 0o755); // PostgreSQL does not run as root
  for (const name of ["prepared", "temporary", "services"]) Deno.mkdirSync(`${folder}/${name}`);
  Deno.chmodSync(`${folder}/services`, 0o755);
  await using services = new Services(`${folder}/services`);
  const place = {
    prepared: options.keep ?? `${folder}/prepared`,
    temporary: `${folder}/temporary`,
    services,
    installed: await install(`${folder}/bin`),
  };

  const page = Deno.readTextFileSync(PAGE);
  const known = parseTable(page);
  const rows: Row[] = [];
  let [passed, failed] = [0, 0];
  for (const [i, app] of apps.entries()) {
    const isLost = ({ verdict }: Outcome, column: number) =>
      verdict === "no" && known.get(app.title)?.[column] !== false;
    const once = async () => {
      const begin = performance.now();
      const outcomes = await tryApp(app, place);
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      const verdicts = outcomes.map(({ mode, verdict }) => `${mode} ${verdict}`).join(", ");
      console.log(`${i + 1} of ${apps.length}: ${app.name}: ${verdicts}, ${seconds} s`);
      for (const { mode, failures, log = [] } of outcomes) {
        for (const { check, why } of failures) console.log(`  ${mode}: ${check}: ${why}`);
        for (const line of log) console.log(`    ${line}`);
      }
      return outcomes;
    };
    let outcomes = await once();
    if (outcomes.some(isLost)) outcomes = await once();
    passed += outcomes.filter(({ verdict }) => verdict !== "no").length;
    failed += outcomes.filter(isLost).length;
    rows.push({ app, version: versionOf(app), outcomes });
  }
  const table = formatTable(rows);
  console.log(`\n${table}`);
  if (options.write) Deno.writeTextFileSync(PAGE, replaceTable(page, table));
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** Installs the command, for the apps that it serves. */
async function install(folder: string): Promise<string> {
  const { success, stderr } = await new Deno.Command(DENO, {
    args: ["run", "-A", new URL("server/cli/install.ts", ROOT).pathname, folder],
    cwd: ROOT,
    stdin: "null",
    stdout: "null",
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return `${folder}/tine`;
}

function find(name: string): App {
  return APPS.find((app) => app.name === name) ??
    fail(`There is no app ${name}; --list shows what there is`);
}

function describe(app: App): string {
  const { name, title, main, by, flags = [], args = [] } = app;
  return `${name}: ${title} ${versionOf(app)}: deno ${
    [by, "-A", ...flags, main, ...args].join(" ")
  }`;
}

Deno.exit(await main());
