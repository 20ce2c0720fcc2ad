/** The metrics as Prometheus's own tool sees them, and the examples that use them. */
import { assert, assertEquals } from "@std/assert";
import { formatPrometheus } from "../server/prefork/status/format.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import { isInstalled, ROOT, scratch, startServer, until } from "./support.ts";

const OPERATIONS = new URL("examples/operations/", ROOT).pathname;

/** The Debian package prometheus contains promtool. */
const ignore = !isInstalled("promtool");

async function promtool(args: string[], input = "", cwd = OPERATIONS): Promise<string> {
  const process = new Deno.Command("promtool", {
    args,
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { code, stdout, stderr } = await process.output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(code, 0, text);
  return text;
}

/** The metrics of a server that has answered a request. */
async function metrics(): Promise<string> {
  await using server = await startServer();
  await server.get("/");
  return formatPrometheus(
    await until(() => {
      const status = readStatus(server.pid);
      const { master: { latency }, listeners } = status;
      return latency.count > 0 && listeners.length > 0 && status;
    }, "a response"),
  );
}

Deno.test({
  name: "promtool finds nothing to improve in the metrics of a server",
  ignore,
  fn: async () => assertEquals(await promtool(["check", "metrics"], await metrics()), ""),
});

Deno.test({
  name: "promtool passes the tests of the alert rules",
  ignore,
  fn: async () => {
    const text = await promtool(["test", "rules", "alerts_test.yml"]);
    assert(text.includes("SUCCESS"), text);
  },
});

interface Panel {
  readonly title: string;
  readonly targets: readonly { readonly expr: string }[];
}

/** The expressions of the dashboard. */
function dashboard(): { title: string; expr: string }[] {
  const { panels } = JSON.parse(Deno.readTextFileSync(`${OPERATIONS}dashboard.json`));
  return (panels as Panel[]).flatMap(({ title, targets }) =>
    targets.map(({ expr }) => ({
      title,
      expr: expr.replaceAll("$__rate_interval", "5m").replaceAll(/\$\w+/g, ".*"),
    }))
  );
}

Deno.test({
  name: "promtool understands the expressions of the dashboard",
  ignore,
  fn: async () => {
    await using folder = scratch();
    const rules = dashboard().map(({ expr }, i) => ({ record: `panel:${i}`, expr }));
    const file = { groups: [{ name: "dashboard", rules }] };
    Deno.writeTextFileSync(`${folder.path}/rules.yml`, JSON.stringify(file)); // which is YAML
    await promtool(["check", "rules", "rules.yml"], "", folder.path);
  },
});

Deno.test("the alert rules and the dashboard use metrics that a server has", async () => {
  const text = await metrics();
  const names = new Set([...text.matchAll(/^(tine_\w+)/gm)].map(([, name]) => name));
  const rules = Deno.readTextFileSync(`${OPERATIONS}alerts.yml`);
  const expressions = [rules, ...dashboard().map(({ expr }) => expr)];
  const used = expressions.flatMap((one) => one.match(/\btine_\w+/g) ?? []);
  assert(used.length > 20);
  assertEquals(used.filter((name) => !names.has(name)), []);
  // Each alert has a test, and one that it does not fire.
  const tests = Deno.readTextFileSync(`${OPERATIONS}alerts_test.yml`);
  const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, alert]) => alert!);
  assert(alerts.length > 5);
  for (const alert of alerts) {
    assertEquals(tests.match(new RegExp(`alertname: ${alert}\\n`, "g"))?.length, 2, alert);
  }
});
