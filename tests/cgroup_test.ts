import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  countProcessors,
  describeLimits,
  memoryShare,
  readCgroupLimits,
} from "../server/prefork/host/cgroup.ts";
import { formatCount } from "../server/log.ts";
import { resolveOptions } from "../server/prefork/options.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import { DENO, ROOT, scratch, startServer, until } from "./support.ts";
import { type Cgroup, cgroupFolder, makeCgroup } from "./cgroup.ts";

const MB = 2 ** 20;

/** Reads the limits that files in a folder show. */
async function limitsOf(files: Readonly<Record<string, string>>) {
  await using folder = scratch();
  for (const [name, text] of Object.entries(files)) {
    const path = `${folder.path}/${name}`;
    Deno.mkdirSync(path.replace(/\/[^/]*$/, ""), { recursive: true });
    Deno.writeTextFileSync(path, text);
  }
  return readCgroupLimits(folder.path);
}

const NO_LIMIT = { processors: Infinity, memory: Infinity };

Deno.test("readCgroupLimits() reads cgroup v2 in a container, which sees its own as the root", async () => {
  const files = {
    "proc/self/cgroup": "0::/\n",
    "proc/self/mountinfo":
      "600 590 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/memory.max": "536870912\n",
  };
  assertEquals(await limitsOf(files), { processors: 1.5, memory: 512 * MB });
  const unlimited = {
    "sys/fs/cgroup/cpu.max": "max 100000\n",
    "sys/fs/cgroup/memory.max": "max\n",
  };
  assertEquals(await limitsOf({ ...files, ...unlimited }), NO_LIMIT);
});

Deno.test("readCgroupLimits() takes the smallest limit of all levels of cgroup v2", async () => {
  const files = {
    "proc/self/cgroup": "0::/system.slice/app.service\n",
    "proc/self/mountinfo": "25 30 0:22 / /proc rw,nosuid - proc proc rw\n" +
      "35 29 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    "sys/fs/cgroup/system.slice/app.service/cpu.max": "300000 100000\n",
    "sys/fs/cgroup/system.slice/app.service/memory.max": "104857600\n",
    "sys/fs/cgroup/system.slice/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/system.slice/memory.max": "max\n",
  };
  assertEquals(await limitsOf(files), { processors: 0.5, memory: 100 * MB });
});

Deno.test("readCgroupLimits() reads cgroup v1, also where a container mounts a part of it", async () => {
  const mount = (above: string) =>
    `41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n` +
    `32 31 0:29 ${above} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n` +
    `35 31 0:32 ${above} /sys/fs/cgroup/memory rw,relatime master:15 - cgroup cgroup rw,memory\n`;
  const own = "5:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n0::/\n";
  const limits = (folder: string) => ({
    [`sys/fs/cgroup/cpu,cpuacct/${folder}cpu.cfs_quota_us`]: "200000\n",
    [`sys/fs/cgroup/cpu,cpuacct/${folder}cpu.cfs_period_us`]: "100000\n",
    [`sys/fs/cgroup/memory/${folder}memory.limit_in_bytes`]: "268435456\n",
  });
  const expected = { processors: 2, memory: 256 * MB };
  const inside = { "proc/self/cgroup": own, "proc/self/mountinfo": mount("/docker/1f") };
  assertEquals(await limitsOf({ ...inside, ...limits("") }), expected);
  const outside = { "proc/self/cgroup": own, "proc/self/mountinfo": mount("/") };
  assertEquals(await limitsOf({ ...outside, ...limits("docker/1f/") }), expected);
  const unlimited = {
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
  };
  assertEquals(await limitsOf({ ...inside, ...unlimited }), NO_LIMIT);
});

Deno.test("readCgroupLimits() finds no limit where there are no cgroups", async () => {
  assertEquals(await limitsOf({}), NO_LIMIT);
  assertEquals(await limitsOf({ "proc/self/cgroup": "0::/\n" }), NO_LIMIT);
});

Deno.test("countProcessors() rounds up, and counts at least one and at most those there are", () => {
  const count = (processors: number) => countProcessors({ processors, memory: Infinity });
  const all = count(1000);
  assert(all >= navigator.hardwareConcurrency); // which this process's own cgroup may limit
  assertEquals([count(Infinity), count(0.01), count(1)], [navigator.hardwareConcurrency, 1, 1]);
  assertEquals(count(1.01), Math.min(2, all));
});

Deno.test("resolveOptions() follows no limit of the cgroup where an option is given", () => {
  assertEquals(resolveOptions({ workers: 1, maxWorkerMemory: Infinity }).cgroup, NO_LIMIT);
  assertEquals(resolveOptions({}).cgroup, readCgroupLimits());
});

Deno.test("memoryShare() leaves room for the master and a replacement", () => {
  const share = memoryShare(4096 * MB, 3);
  assert(share < 1024 * MB && share > 700 * MB, `${share}`);
  assertEquals(memoryShare(Infinity, 3), Infinity);
  assertEquals(memoryShare(64 * MB, 1), Infinity); // Deno itself would exceed it
});

Deno.test("describeLimits() has a line for each limit that a default follows", () => {
  assertEquals(describeLimits(NO_LIMIT, 4), []);
  const [processors, memory, ...more] = describeLimits({ processors: 1.504, memory: 1e9 }, 2);
  assertEquals([processors, more], ["The cgroup allows 1.5 processors: 2 workers", []]);
  assertMatch(
    memory!,
    /^The cgroup allows 1000 MB of memory, so a worker with more than \d+ MB of its own is replaced$/,
  );
  assertEquals(describeLimits({ processors: Infinity, memory: 1e8 }, 8), [
    "The cgroup allows 100 MB of memory, too little to limit each of 8 workers",
  ]);
  assertEquals(describeLimits({ processors: 1, memory: 1e8 }, 1), [
    "The cgroup allows 1 processor: 1 worker",
    "The cgroup allows 100 MB of memory, too little to limit the worker",
  ]);
});

const [processors, memory] = [cgroupFolder("cpu"), cgroupFolder("memory")];
if (processors === undefined || memory === undefined) {
  console.log("Tests of real limits are ignored: they need root and writable cgroups");
}

Deno.test(
  "servePrefork() follows the limits of a real cgroup, and replaces a worker before the kernel kills it (needs cgroups)",
  {
    ignore: processors === undefined || memory === undefined,
  },
  async () => {
    using cpu: Cgroup = makeCgroup(processors!, {
      "cpu.cfs_quota_us": "120000",
      "cpu.max": "120000 100000",
    });
    using ram: Cgroup = makeCgroup(memory!, {
      "memory.limit_in_bytes": `${500 * MB}`,
      "memory.max": `${500 * MB}`,
    });
    const shell = `${cpu.enter} ${ram.enter}`;
    const count = countProcessors({ processors: 1.2, memory: Infinity });
    await using server = await startServer([], { shell, ownWorkers: true });
    await server.logged(
      new RegExp(`The cgroup allows 1\\.2 processors: ${formatCount(count, "worker")}$`, "m"),
    );
    const [, limit] = await server.logged(
      /a worker with more than (\d+) MB of its own is replaced/,
    );
    assertEquals(readStatus(server.pid).master.workers, count);
    const { stdout } = await new Deno.Command("bash", {
      args: ["-c", `${shell} exec "$@"`, "bash", DENO, "run", "-A", "server/cli.ts", "check"]
        .concat(["--json", "tests/prefork/app.ts"]),
      cwd: new URL(ROOT).pathname,
      stderr: "null",
    }).output();
    const { options } = JSON.parse(new TextDecoder().decode(stdout));
    for (const name of ["workers", "maxWorkerMemory"]) {
      const { source, from, value } = options.find((one: { name: string }) => one.name === name);
      assertEquals([source, from], ["default", "default, by the limit of the cgroup"]);
      assert(value >= 1);
    }
    const { workers } = server;
    const mb = Math.ceil(Number(limit) * 0.6);
    const leaked = new Map<string, number>();
    while (![...leaked.values()].some((times) => times === 2)) {
      const pid = await server.get(`/leak?mb=${mb}`);
      leaked.set(pid, (leaked.get(pid) ?? 0) + 1);
    }
    await server.logged(/Worker \d \(pid \d+\) will be replaced: it uses \d+ MB of private memory/);
    await until(
      () => server.workers.length === count && server.workers.some((pid) => !workers.includes(pid)),
      "the replacement",
    );
    assertEquals(readStatus(server.pid).master.crashes, 0, server.stderr);
  },
);

Deno.test(
  "servePrefork() replaces a worker that the kernel kills for want of memory (needs cgroups)",
  {
    ignore: memory === undefined,
  },
  async () => {
    const limit = `${300 * MB}`;
    using ram: Cgroup = makeCgroup(memory!, {
      "memory.limit_in_bytes": limit,
      "memory.memsw.limit_in_bytes": limit,
      "memory.swappiness": "0",
      "memory.max": limit,
      "memory.swap.max": "0",
    });
    await using server = await startServer(["--max-worker-memory", "10G"], { shell: ram.enter });
    const { workers } = server;
    using client = Deno.createHttpClient({ poolMaxIdlePerHost: 1 }); // stays with one worker
    const leak = async () => {
      const url = `http://127.0.0.1:${server.port}/leak?mb=50`;
      return await (await fetch(url, { client, signal: AbortSignal.timeout(15_000) })).text();
    };
    const victim = Number(await leak());
    for (let left = 20; left > 0 && server.workers.includes(victim); left--) {
      await leak().catch(() => {}); // its own requests fail
    }
    await server.logged(new RegExp(`Worker \\d \\(pid ${victim}\\) ended: killed by SIGKILL`));
    const after = await server.replaced([victim]);
    assertEquals(after.filter((pid) => workers.includes(pid)).length, 1, server.stderr);
    assertEquals(await server.get("/"), "Hello, World!\n");
  },
);
