import type { Lesson } from "../lesson.ts";

const PROGRAM = "examples/part3/webserver3a.ts";

/** The ports of clients, which the kernel chooses, and those that need a privilege. */
export const lesson: Lesson = {
  name: "ports",
  title: "Ephemeral and well-known ports",
  source: "Let's Build A Web Server, part 3: ephemeral and well-known ports",
  question:
    "Two clients connect to one server, which was told its port. Which ports do the clients have, and " +
    "from where? And may any user's server listen on port 80?",
  answer:
    "A server's port must be known before anybody can connect: 80 for HTTP, 22 for SSH. A client's " +
    "port only has to be free, so the kernel assigns one from the range in ip_local_port_range when " +
    "it connects: an ephemeral port. Ports below ip_unprivileged_port_start (1024, unless it was " +
    "changed) are kept for those with the capability CAP_NET_BIND_SERVICE, so that no ordinary user " +
    "can pose as the machine's web server: bind() fails with EACCES.",
  programs: [{ file: PROGRAM, decisive: "listenSocket.bind(SERVER_ADDRESS);" }],
  read: ["ip(7)", "bind(2)", "services(5)", PROGRAM],
  next: "pair",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    const port = server.port!;
    stage.say("Two clients connect and send nothing.");
    const clients = stage.clients(port, { count: 2, request: null });
    for (const client of clients) await client.connected();
    const ports = await stage.until("both connections at the server's side", () => {
      const found = stage.snapshot().sockets.filter(({ state, local }) =>
        state === "ESTABLISHED" && local.endsWith(`:${port}`)
      ).map(({ remote }) => portOf(remote));
      return found.length === 2 && found;
    });
    stage.draw("One server, two clients, three ports");
    const [least, most] = setting("ip_local_port_range").split(/\s+/).map(Number);
    stage.note("the kernel's range for clients", `${least} to ${most}`);
    stage.expect(
      "the clients' ports, as the server sees them",
      ports.join(", "),
      () => ports.every((one) => least! <= one && one <= most!) && ports[0] !== ports[1],
      "two of that range",
    );

    const first = Number(setting("ip_unprivileged_port_start"));
    stage.note("the first port for everybody", first);
    if (first < 2) {
      stage.say("On this system every user may listen on every port.");
      return;
    }
    const known = `${Math.min(80, first - 1)}`;
    // Without that capability, files that only root may read could not be loaded: Deno's own, say.
    const reads = Deno.uid() === 0 ? " It may read root's files, but has no other privilege." : "";
    stage.say(`An ordinary user starts the server on port ${known}.${reads}`);
    const refused = await stage.start({
      program: PROGRAM,
      args: [known],
      user: "unprivileged",
      listens: false,
    });
    const listeners = () =>
      stage.snapshot().sockets.filter(({ state, holders }) =>
        state === "LISTEN" && holders.some(({ pid }) => pid === refused.pid)
      );
    const isThere = () => stage.snapshot().processes.some(({ pid }) => pid === refused.pid);
    await stage.until("its end", () => !isThere() || listeners().length > 0);
    stage.expect("sockets with which it listens", listeners().length, (count) => count === 0, "0");
    await refused.stop();
    const { code } = await refused.ended();
    stage.expect("its exit code", code, (exit) => exit === 1, "1: bind() failed");
    stage.note("it says", refused.output().trim());
  },
};

function setting(name: string): string {
  return Deno.readTextFileSync(`/proc/sys/net/ipv4/${name}`).trim();
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}
