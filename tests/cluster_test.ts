/**
 * The cluster of `examples/cluster`, made small: three servers with one worker each behind a
 * balancer, and the strict client, which must see no request fail while releases are deployed.
 */
import { assert, assertEquals } from "@std/assert";
import { DENO, install, isInstalled, Program, ROOT, scratch } from "./support.ts";

/** Tries scenarios with a balancer. Returns what the program prints. */
async function tryCluster(balancer: string, ...scenarios: string[]): Promise<string> {
  await using folder = scratch();
  await install(folder.path);
  const program = new Program(DENO, [
    ...["run", "-A", "--no-lock", `${ROOT.pathname}examples/cluster/cluster.ts`],
    ...["--balancer", balancer, "--requests", "2000", "--workers", "1", "--drain-delay", "1"],
    ...scenarios.flatMap((scenario) => ["--scenario", scenario]),
  ], { env: { PATH: `${folder.path}:${Deno.env.get("PATH")}` } });
  try {
    const { code } = await program.ended(120_000);
    assertEquals(code, 0, program.stdout + program.stderr);
    return program.stdout;
  } finally {
    program.kill(); // it ends what it has started
    await program.status;
  }
}

/** The number of requests, all of which were answered. */
function answered(output: string, scenario: string): number {
  const [, requests] =
    output.match(new RegExp(`^${scenario}: (\\d+) requests in \\d+ s, 0 failed; `, "m")) ?? [];
  assert(requests !== undefined, output);
  return Number(requests);
}

for (const balancer of ["haproxy", "nginx"]) {
  Deno.test(`deploy.sh loses no request behind ${balancer} (needs ${balancer})`, {
    ignore: !isInstalled(balancer),
  }, async () => {
    const scenarios = balancer === "haproxy" ? ["reload", "restart", "broken"] : ["reload"];
    const output = await tryCluster(balancer, ...scenarios);
    for (const scenario of scenarios) {
      assert(answered(output, scenario) >= (scenario === "broken" ? 200 : 2000), output);
    }
  });
}
