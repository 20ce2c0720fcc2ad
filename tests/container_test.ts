/**
 * A server in a container: a namespace for processes, in which it is process 1, the user 65534
 * without any rights, nothing that can be written, not even `/tmp`, no `/dev/shm`, no home, and the
 * system calls refused that Docker's default profile refuses. bubblewrap makes it.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { parseAll } from "@std/yaml/parse";
import { SIGTERM } from "../mod.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  childrenOf,
  DENO,
  freePort,
  install,
  isInstalled,
  processState,
  Program,
  ROOT,
  scratch,
  until,
  writeApp,
} from "./support.ts";

const APP = `
if (Deno.env.has("TOP_LEVEL_WAITS")) await new Promise((resolve) => setTimeout(resolve, 60_000));

const attempt = (work) => {
  try {
    return String(work());
  } catch (error) {
    return error.code ?? error.name;
  }
};

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/orphan") {
      const options = { args: ["-c", "sleep 60 & exit"], stdout: "null", stderr: "null" };
      await new Deno.Command("sh", options).output();
    }
    return Response.json({
      parent: Deno.ppid,
      user: Deno.uid(),
      files: ["/file", "/tmp/file", "/dev/shm/file", "/app/file"].map((file) =>
        attempt(() => Deno.writeTextFileSync(file, ""))
      ),
      home: Deno.env.get("HOME") ?? null,
      status: Deno.readTextFileSync("/proc/self/status"),
    });
  },
};
`;

const isPossible = Deno.uid() === 0 && isInstalled("bwrap");

/** A server in a container. */
interface Contained extends AsyncDisposable {
  readonly program: Program;
  /** The master's pid, seen from here. */
  master(): Promise<number>;
}

/** Starts `tine serve` as process 1 of a container. */
async function contain(
  folder: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Contained> {
  const tine = `${folder}/bin`;
  await install(tine);
  writeApp(folder, APP);
  Deno.writeFileSync(`${folder}/seccomp`, profile());
  const line = [
    ...["bwrap", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts", "--new-session"],
    "--die-with-parent",
    ...["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"],
    ...["--cap-add", "CAP_SETPCAP"],
    ...["/opt", "/dev", "/app", "/tmp", folder].flatMap((
      path,
    ) => ["--perms", "0755", "--dir", path]),
    ...["--ro-bind", "/usr", "/usr"],
    ...["bin", "sbin", "lib", "lib64"].flatMap((name) => ["--symlink", `usr/${name}`, `/${name}`]),
    ...["--proc", "/proc", "--dev-bind", "/dev/null", "/dev/null"],
    ...["--dev-bind", "/dev/urandom", "/dev/urandom", "--ro-bind", DENO, "/opt/deno"],
    ...["--ro-bind", tine, tine, "--ro-bind", `${folder}/app.ts`, "/app/app.ts", "--chdir", "/app"],
    ...["--clearenv", "--setenv", "PATH", "/opt:/usr/bin:/bin", "--setenv", "DENO_DIR", "/none"],
    ...["--setenv", "NO_COLOR", "1"],
    ...Object.entries(env).flatMap(([name, value]) => ["--setenv", name, value]),
    ...["--remount-ro", "/", ...hasProfile ? ["--seccomp", "9"] : []],
    // These are executed one after the other: the last one is process 1.
    ...["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
    ...["--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"],
    ...[`${tine}/tine`, "serve", ...args],
  ];
  const shell = `exec 9<'${folder}/seccomp'; exec "$@"`;
  const program = new Program("/bin/bash", ["-c", shell, "bash", ...line]);
  return {
    program,
    master: () => until(() => childrenOf(program.pid)[0], "process 1"),
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

Deno.test(
  "serve runs as process 1 of a container, without rights and files to write (needs root and bubblewrap)",
  {
    ignore: !isPossible,
  },
  async () => {
    await using folder = scratch();
    const [port, adminPort] = [freePort(), freePort()];
    // As kubernetes.yml says, but for the addresses, and for the time that it takes to stop.
    const { args, startupProbe, livenessProbe } = podOf(manifests()).containers[0]!;
    await using container = await contain(
      folder.path,
      [
        ...args.filter((arg) => !/^--(port|drain-delay)=/.test(arg))
          .map((arg) => arg.replace(/^--admin=0\.0\.0\.0:9000$/, `--admin=0.0.0.0:${adminPort}`)),
        ...["--host=127.0.0.1", `--port=${port}`, "--drain-delay=0", "--workers=2"],
      ],
    );
    const { program } = container;
    const serving = (times: number) =>
      until(
        () => {
          if (/error|bwrap:|setpriv:/.test(program.stderr)) throw new Error(program.stderr);
          return program.stderr.match(/Serving .* with 2 workers/g)?.length === times;
        },
        `${times} times "Serving"`,
        30_000,
      );
    await serving(1);
    const ask = async (path: string) =>
      await (await fetch(`http://127.0.0.1:${port}${path}`)).json();
    const { status, ...rest } = await ask("/");
    assertEquals(rest, {
      parent: 1,
      user: 65534,
      files: ["EROFS", "EROFS", "ENOENT", "EROFS"],
      home: null,
    });
    assertMatch(status, /^CapBnd:\t0+$/m);
    assertMatch(status, /^NoNewPrivs:\t1$/m);
    if (hasProfile) assertMatch(status, /^Seccomp:\t2$/m);

    // The kubelet asks for the pod's address.
    const probe = async (host: string, path = "/readyz") => {
      const socket = await Deno.connect({ hostname: "127.0.0.1", port: adminPort });
      await socket.write(
        new TextEncoder().encode(
          `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
        ),
      );
      const text = await new Response(socket.readable).text();
      return Number(text.match(/^HTTP\/1\.1 (\d+)/)?.[1]);
    };
    const host = `10.244.1.23:${adminPort}`;
    const { path } = startupProbe.httpGet;
    await until(async () => await probe(host, path) === 200, "readiness");
    assertEquals(await probe(host, livenessProbe.httpGet.path), 200);
    assertEquals(await probe(`[fd00::17]:${adminPort}`), 200);
    assertEquals(await probe("rebound.example"), 403);

    // Process 1 is the parent of all orphans, of which it knows nothing.
    const master = await container.master();
    await ask("/orphan");
    const isOrphan = (pid: number) => {
      try {
        return Deno.readTextFileSync(`/proc/${pid}/comm`) === "sleep\n";
      } catch {
        return false; // it has ended
      }
    };
    const orphan = await until(() => childrenOf(master).find(isOrphan), "the orphan");
    Deno.kill(orphan, "SIGKILL");
    await until(() => processState(orphan) === undefined, "the end of the orphan");
    assertEquals(readStatus(master).workers.map(({ state }) => state), ["ready", "ready"]);

    Deno.kill(master, "SIGHUP");
    await serving(2);
    assertEquals((await ask("/")).parent, 1);
    Deno.kill(master, "SIGTERM");
    assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
  },
);

Deno.test(
  "serve as process 1 stops at SIGTERM while it loads the app (needs root and bubblewrap)",
  {
    ignore: !isPossible,
  },
  async () => {
    await using folder = scratch();
    await using container = await contain(folder.path, ["app.ts", "--port", "0"], {
      TOP_LEVEL_WAITS: "1",
    });
    const master = await container.master();
    const isBlocked = () => {
      const [, mask] = Deno.readTextFileSync(`/proc/${master}/status`).match(/^SigBlk:\t(.*)$/m)!;
      return (parseInt(mask!, 16) & (1 << (SIGTERM - 1))) !== 0;
    };
    await until(isBlocked, "a signal mask");
    // The kernel discards a signal that process 1 neither handles nor blocks.
    Deno.kill(master, "SIGTERM");
    assertEquals((await container.program.ended()).code, 0, container.program.stderr);
  },
);

/** What these tests read of kubernetes.yml. */
interface Manifest {
  readonly kind: string;
  readonly spec: {
    readonly selector: unknown;
    readonly template: { readonly metadata: { readonly labels: unknown }; readonly spec: Pod };
    readonly ports: readonly { readonly targetPort: string }[];
  };
}

interface Pod {
  readonly terminationGracePeriodSeconds: number;
  readonly securityContext: Record<string, unknown>;
  readonly containers: readonly (Record<`${"startup" | "readiness" | "liveness"}Probe`, Probe> & {
    readonly args: readonly string[];
    readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
    readonly securityContext: Record<string, unknown>;
  })[];
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
  readonly periodSeconds: number;
  readonly failureThreshold: number;
}

function example(name: string): string {
  return Deno.readTextFileSync(new URL(`examples/cluster/${name}`, ROOT));
}

function manifests(): Manifest[] {
  return (parseAll as (text: string) => Manifest[])(example("kubernetes.yml"));
}

function podOf(all: readonly Manifest[]): Pod {
  return all.find(({ kind }) => kind === "Deployment")!.spec.template.spec;
}

Deno.test("`kubernetes.yml` and the Containerfile fit each other, and what tine does", async () => {
  const all = manifests();
  assertEquals(all.map(({ kind }) => kind), ["Deployment", "Service", "PodDisruptionBudget"]);
  const [deployment, service, budget] = all.map(({ spec }) => spec);
  const { labels } = deployment!.template.metadata;
  assertEquals(deployment!.selector, { matchLabels: labels });
  assertEquals(service!.selector, labels);
  assertEquals(budget!.selector, { matchLabels: labels });

  const pod = podOf(all);
  const [container] = pod.containers;
  const { args, ports, startupProbe, readinessProbe, livenessProbe } = container!;
  assertEquals(service!.ports.map(({ targetPort }) => targetPort), ["http"]);
  for (const { httpGet } of [startupProbe, readinessProbe, livenessProbe]) {
    assertEquals(httpGet.port, "admin");
  }
  await using folder = scratch();
  writeApp(folder.path, APP);
  const output = await new Deno.Command(DENO, {
    args: ["run", "-A", "--no-lock", `${ROOT.pathname}server/cli.ts`, "check", ...args, "--json"],
    cwd: folder.path,
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(output.stdout);
  assert(output.success, text + new TextDecoder().decode(output.stderr));
  const { options } = JSON.parse(text) as { options: { name: string; value: unknown }[] };
  const option = (wanted: string) => options.find(({ name }) => name === wanted)?.value;
  const time = (name: string) => Number(option(name));
  assertEquals(ports.map(({ containerPort }) => containerPort), [
    option("port"),
    Number(String(option("admin")).split(":")[1]),
  ]);
  // The kubelet must not kill what still finishes requests, nor what still starts.
  const toStop = time("drainDelay") + time("grace");
  assert(pod.terminationGracePeriodSeconds > toStop);
  const seconds = ({ periodSeconds, failureThreshold }: Probe) => periodSeconds * failureThreshold;
  assert(seconds(startupProbe) >= time("bootTimeout"));
  assert(seconds(livenessProbe) > time("timeout"));
  assert(seconds(readinessProbe) < time("drainDelay"));

  const file = example("Containerfile");
  const { runAsUser, runAsGroup } = pod.securityContext;
  assertMatch(file, new RegExp(`^USER ${runAsUser}:${runAsGroup}$`, "m"));
  assertMatch(file, new RegExp(`^EXPOSE ${ports.map((one) => one.containerPort).join(" ")}$`, "m"));
  const [, installed] = file.match(/^RUN deno task install (\S+)$/m)!;
  assertMatch(file, new RegExp(`^ENTRYPOINT \\["${installed}/tine", "serve"\\]$`, "m"));
  assertEquals(args[0], file.match(/^COPY examples\/cluster\/(app\.ts) \.$/m)?.[1]);
});

// The system calls that Docker's default profile refuses, as far as the kernel has them on x86-64.

const hasProfile = Deno.build.arch === "x86_64";

const EPERM = 1;
const ENOSYS = 38;
const CLONE = 56;
const CLONE3 = 435;
const SOCKET = 41;
const REFUSED = [
  ...[103, 155, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179], // syslog, pivot_root, ..., quotactl
  ...[212, 227, 237, 238, 239, 246, 248, 249, 250], // lookup_dcookie, clock_settime, mbind, ..., keyctl
  ...[272, 279, 298, 300, 304, 308, 312, 313, 321, 323], // unshare, ..., bpf, userfaultfd
  ...[425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 443], // io_uring_setup, ..., process_madvise
];
/** CLONE_NEWNS and the other flags that make namespaces. */
const NAMESPACES = 0x7e02_0000;
/** The address families from 40 on: AF_VSOCK; and 38: AF_ALG. */
const FAMILIES = [38, 40];

/** Returns the profile as a program for the kernel, struct sock_filter[]. */
function profile(): Uint8Array<ArrayBuffer> {
  const [LOAD, EQUAL, SET, RETURN] = [0x20, 0x15, 0x45, 0x06];
  const program: [code: number, ifTrue: number, ifFalse: number, value: number][] = [];
  const refuse = (errno: number) => program.push([RETURN, 0, 0, 0x0005_0000 | errno]);
  const refuseIf = (code: number, value: number, errno: number) => {
    program.push([code, 0, 1, value]);
    refuse(errno);
  };
  const load = (offset: number) => program.push([LOAD, 0, 0, offset]); // of struct seccomp_data
  load(0);
  for (const number of REFUSED) refuseIf(EQUAL, number, EPERM);
  refuseIf(EQUAL, CLONE3, ENOSYS);
  program.push([EQUAL, 0, 3, CLONE]);
  load(16);
  refuseIf(SET, NAMESPACES, EPERM);
  load(0);
  program.push([EQUAL, 0, 1 + 2 * FAMILIES.length, SOCKET]);
  load(16);
  for (const family of FAMILIES) refuseIf(EQUAL, family, EPERM);
  program.push([RETURN, 0, 0, 0x7fff_0000]);
  const bytes = new DataView(new ArrayBuffer(8 * program.length));
  program.forEach(([code, ifTrue, ifFalse, value], i) => {
    bytes.setUint16(8 * i, code, true);
    bytes.setUint8(8 * i + 2, ifTrue);
    bytes.setUint8(8 * i + 3, ifFalse);
    bytes.setUint32(8 * i + 4, value, true);
  });
  return new Uint8Array(bytes.buffer);
}
