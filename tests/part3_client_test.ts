import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  childrenOf,
  descriptorsOf,
  portOf,
  type Program,
  readAll,
  scratch,
  start,
  until,
  within,
} from "./support.ts";
import * as tine from "../mod.ts";

function startClient(port: number, ...args: string[]): Program {
  return start("examples/part3/client3.ts", ["--port", `${port}`, ...args]);
}

/** A server that notes the bytes of every connection up to its end. */
function listen(): { port: number; requests: Promise<string>[] } & Disposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const requests: Promise<string>[] = [];
  (async () => {
    for await (const connection of listener) {
      requests.push(readAll(connection).finally(() => connection.close()));
    }
  })();
  return { port: listener.addr.port, requests, [Symbol.dispose]: () => listener.close() };
}

Deno.test("`client3` sends a request on each of M connections from each of N clients", async () => {
  using server = listen();
  await using client = startClient(server.port, "--max-clients", "3", "--max-conns=4");
  assertEquals(await client.ended(), { code: 0, signal: null });
  assertEquals([client.stdout, client.stderr], ["client3: 12 connected, 0 failed\n", ""]);
  await until(() => server.requests.length === 12, "12 connections");
  const request = `GET /hello HTTP/1.1\r\nHost: localhost:${server.port}\r\n\r\n`;
  const received = await within(Promise.all(server.requests), 15_000, "the requests");
  assertEquals(received, Array(12).fill(request));
});

Deno.test("`client3` makes 1024 connections from one client by default", async () => {
  await using server = start("examples/part3/webserver3g.ts", ["0"]);
  await using client = startClient(await portOf(server));
  assertEquals(await client.ended(), { code: 0, signal: null });
  assertEquals(client.stdout, "client3: 1024 connected, 0 failed\n");
  await until(() => server.stdout.match(/^GET /gm)?.length === 1024, "1024 requests", 60_000);
});

Deno.test("`client3` keeps its connections open, reports progress and gives up in time", async () => {
  // The kernel's queue holds four connections, and no process accepts them.
  using listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  listenSocket.bind(["127.0.0.1", 0]);
  listenSocket.listen(3);
  const port = Number(listenSocket.getsockname()[1]);
  await using client = startClient(port, "--max-clients=1", "--max-conns=9", "--timeout=4");
  await until(() => client.stderr.includes("client3: 4 of 9 connected ...\n"), "progress");
  const [child] = childrenOf(client.pid);
  const sockets = (pid: number): Set<string> =>
    new Set([...descriptorsOf(pid).values()].filter((link) => link.startsWith("socket:")));
  // Four that are connected and one that is about to be.
  assertEquals(sockets(child!).difference(sockets(client.pid)).size, 5);
  assertEquals((await client.ended()).code, 1);
  assertEquals(client.stdout, "client3: 4 connected, 5 failed\n");
  assertMatch(
    client.stderr,
    /^client3: No connection within 4 seconds: the server's queue is full$/m,
  );
});

Deno.test("`client3` reports once why connections fail, counts them and exits with 1", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  await using client = startClient(port, "--max-clients=5", "--max-conns=2");
  assertEquals((await client.ended()).code, 1);
  assertEquals(client.stdout, "client3: 0 connected, 10 failed\n");
  assertEquals(
    client.stderr,
    `client3: Cannot connect localhost:${port}: ECONNREFUSED (Connection refused)\n`,
  );
});

Deno.test("`client3` counts connections without a descriptor as failed", async () => {
  using server = listen();
  await using client = start(
    "examples/part3/client3.ts",
    ["--port", `${server.port}`, "--max-conns", "100"],
    { shell: "ulimit -n 64;" },
  );
  assertEquals((await client.ended()).code, 1);
  const [, connected, failed] = client.stdout.match(/^client3: (\d+) connected, (\d+) failed\n$/)!;
  assertEquals(Number(connected) + Number(failed), 100);
  assert(Number(connected) > 10 && Number(connected) < 64);
  assertMatch(client.stderr, /^client3: Cannot [^\n]+\n$/); // socket, or reading /etc/hosts
});

Deno.test("`client3` rejects invalid arguments with one line and exit code 2", async () => {
  const wrong: [string[], RegExp][] = [
    [["--max-client", "3"], /unknown argument "--max-client"/],
    [["128"], /unknown argument "128"/],
    [[""], /unknown argument ""/],
    [["toString", "1"], /unknown argument "toString"/],
    [["--max-clients", "0"], /--max-clients: expected a whole number from 1 .*"0"/],
    [["--max-clients"], /--max-clients: expected a whole number/],
    [["--max-conns=-1"], /--max-conns: expected a whole number .*"-1"/],
    [["--max-clients=1=2"], /--max-clients: expected a whole number .*"1=2"/],
    [["--max-conns", ""], /--max-conns: expected a whole number .*""/],
    [["--max-conns", "--port"], /--max-conns: expected a whole number .*"--port"/],
    [["--max-conns=2.5"], /--max-conns: expected a whole number .*"2\.5"/],
    [["--max-conns=abc"], /--max-conns: expected a whole number .*"abc"/],
    [["--max-conns=1e3"], /--max-conns: expected a whole number .*"1e3"/],
    [["--port", "65536"], /--port: expected a whole number from 1 to 65535, not "65536"/],
    [["--timeout=0"], /--timeout: expected a whole number/],
  ];
  for (const [args, message] of wrong) {
    await using client = start("examples/part3/client3.ts", args);
    assertEquals([(await client.ended()).code, client.stdout], [2, ""], args.join(" "));
    assertMatch(client.stderr, /^client3: [^\n]+\n$/);
    assertMatch(client.stderr, message);
  }
});

Deno.test("`client3` explains all its options with --help", async () => {
  for (const flag of ["--help", "-h"]) {
    await using client = start("examples/part3/client3.ts", [flag]);
    assertEquals([(await client.ended()).code, client.stderr], [0, ""]);
    for (const option of ["clients N", "conns M"]) {
      assert(client.stdout.includes(`--max-${option} `));
    }
    assertMatch(client.stdout, /default 1\)[^]*default 1024\)[^]*--port [^]*default 8888\)/);
    for (const line of client.stdout.split("\n")) assert(line.length <= 90, line);
  }
});

Deno.test("`client3` ends on SIGINT", async () => {
  using listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  listenSocket.bind(["127.0.0.1", 0]);
  listenSocket.listen(0);
  await using client = startClient(Number(listenSocket.getsockname()[1]), "--max-conns=5");
  await until(() => client.stderr.includes(" connected ...\n"), "progress");
  for (const child of childrenOf(client.pid)) Deno.kill(child, "SIGINT"); // as a terminal does
  client.kill("SIGINT");
  assertEquals(await client.ended(), { code: 130, signal: "SIGINT" });
});

Deno.test("`socket_pair` shows the same pair from both ends", async () => {
  await using program = start("examples/part3/socket_pair.ts");
  assertEquals((await program.ended()).code, 0);
  checkSocketPair(program.stdout);
});

function checkSocketPair(output: string): void {
  const [, host, port] = output.match(/gave the client (\S+) and the ephemeral port (\d+)\n/)!;
  assertEquals(host, "127.0.0.1");
  const range = Deno.readTextFileSync("/proc/sys/net/ipv4/ip_local_port_range");
  const [least, most] = range.trim().split(/\s+/).map(Number);
  assert(least! <= Number(port) && Number(port) <= most!);
  const [, near, far] = output.match(/^client: \{(\S+), (\S+)\}$/m)!;
  assertEquals(near, `127.0.0.1:${port}`);
  assertMatch(far!, /^127\.0\.0\.1:\d+$/);
  assert(output.endsWith(`\nserver: {${far}, ${near}}\n`));
}

Deno.test("`processes` prints what ps shows", async () => {
  await using program = start("examples/part3/processes.ts", ["30"]);
  const [, pid, ppid] = await program.printed(/^PID: (\d+)\. Parent PID (\d+)\n/);
  const [, child, parent] = await program.printed(/^Child PID: (\d+)\. Parent PID (\d+)$/m);
  const [, pids] = await program.printed(/^ps -o pid,ppid,args -p (\S+)\n/m);
  assertEquals(pids, `${ppid},${pid},${child}`);
  const ps = await new Deno.Command("ps", { args: ["-o", "pid=,ppid=", "-p", `${pid},${child}`] })
    .output();
  const shown = new TextDecoder().decode(ps.stdout).trim().split("\n")
    .map((line) => line.trim().split(/\s+/));
  assertEquals(shown, [[pid!, ppid!], [child!, parent!]]);
  assertEquals([pid, ppid], [`${program.pid}`, `${Deno.pid}`]);
});

Deno.test("`processes` ends after its child has slept", async () => {
  await using program = start("examples/part3/processes.ts", ["0.1"]);
  assertEquals(await program.ended(), { code: 0, signal: null });
});

Deno.test("`descriptors` shows what the standard streams are, and why a socket is not 3", async () => {
  await using folder = scratch();
  const file = `${folder.path}/input`;
  Deno.writeTextFileSync(file, "");
  await using program = start("examples/part3/descriptors.ts", [], { shell: `exec <${file};` });
  assertEquals((await program.ended()).code, 0);
  const [input, output, errors, ...rest] = program.stdout.split("\n");
  assertEquals(input, `standard input: 0, ${file}`);
  assertMatch(output!, /^standard output: 1, pipe:\[\d+\]$/);
  assertMatch(errors!, /^standard error: 2, pipe:\[\d+\]$/);
  assertEquals(rest.splice(-2), ["hello", ""]);
  const socket = rest.pop()!;
  assertMatch(socket, /^socket: \d+, socket:\[\d+\]$/);
  // Every number below the socket's is taken.
  assertEquals(rest.length, parseInt(socket.replace(/^socket: /, "")) - 3);
  rest.forEach((line, i) => assertMatch(line, new RegExp(`^already open: ${i + 3}, [/a-z]`)));
  assertMatch(rest.join("\n"), /, anon_inode:\[eventpoll\]$/m); // Deno's event loop
});

Deno.test("`descriptors` shows what Deno opens if standard input is closed", async () => {
  await using program = start("examples/part3/descriptors.ts", [], { shell: "exec 0<&-;" });
  assertEquals((await program.ended()).code, 0);
  assertMatch(program.stdout, /^standard input: 0, \/dev\/null\n/);
});
