import type { DescriptorView, Lesson } from "../lesson.ts";

const PROGRAM = "examples/part3/descriptors.ts";
const LOWEST = "examples/lab/programs/lowest_descriptor.ts";

/** The standard streams, and the number of a new file. */
export const lesson: Lesson = {
  name: "descriptors",
  title: "A new file gets the lowest free number",
  source: "Let's Build A Web Server, part 3: file descriptors and fileno()",
  question:
    "A process has its standard streams open and creates a socket. In the article's Python, the " +
    "socket's fileno() is 3. What is it in Deno, and what if descriptor 0 was closed before?",
  answer:
    "0, 1 and 2 are open when a program begins: the shell, or whoever starts it, has seen to that. A " +
    "new file gets the lowest number that is free. That is 3 only in a program that has opened " +
    "nothing else; Deno has opened files for its event loop and its caches. If standard input is " +
    "closed at the start, Deno opens /dev/null as 0, lest the next file become standard input by " +
    "chance. If the program closes it later, exactly that happens.",
  programs: [
    { file: PROGRAM, decisive: "const sock = new Socket(AF_INET, SOCK_STREAM);" },
    { file: LOWEST, decisive: "close(0);" },
  ],
  read: ["open(2)", "socket(2)", "stdin(3)", "proc(5)", PROGRAM],
  next: "3c",
  async run(stage) {
    const view = (pid: number) => stage.snapshot().processes.find((one) => one.pid === pid);
    const descriptors = (pid: number) => view(pid)?.descriptors ?? [];
    /** The socket that a program has created when it sleeps. */
    const socket = (pid: number) =>
      view(pid)?.state === "sleeping" && descriptors(pid).find(({ kind }) => kind === "tcp");

    const open = await stage.start({
      program: PROGRAM,
      args: ["60"],
      shell: "exec </dev/zero;",
      listens: false,
    });
    const fd = (await stage.until("the socket", () => socket(open.pid))).fd;
    const table = descriptors(open.pid);
    stage.draw("A program that has created a socket");
    stage.expect("descriptor 0", target(table, 0), (file) => file === "/dev/zero", "/dev/zero");
    stage.note("descriptors 1 and 2", `${target(table, 1)}, ${target(table, 2)}`);
    const lower = Array.from({ length: fd }, (_, number) => number);
    const taken = lower.filter((number) => table.some((one) => one.fd === number)).length;
    stage.note("the socket's descriptor", fd);
    stage.expect("numbers below it that are taken", taken, (count) => count === fd, `all ${fd}`);
    const runtime = table.filter((one) => one.fd > 2 && one.fd < fd).length;
    stage.expect(
      "of them Deno's own, and not 0 to 2",
      runtime,
      (count) => count > 0,
      "more than 0",
    );

    await open.stop();

    stage.say("The same program, with its standard input closed.");
    const closed = await stage.start({
      program: PROGRAM,
      args: ["60"],
      shell: "exec 0<&-;",
      listens: false,
    });
    await stage.until("its socket", () => socket(closed.pid));
    stage.expect(
      "descriptor 0",
      target(descriptors(closed.pid), 0),
      (file) => file === "/dev/null",
      "/dev/null, which Deno opened",
    );

    await closed.stop();

    stage.say("A program that closes descriptor 0 itself, and then creates a socket.");
    const lowest = await stage.start({ program: LOWEST, listens: false });
    const zero = await stage.until("its socket", () => socket(lowest.pid));
    stage.draw("Descriptor 0 is a socket");
    stage.expect("the socket's descriptor", zero.fd, (number) => number === 0, "0");
  },
};

function target(table: readonly DescriptorView[], fd: number): string | undefined {
  return table.find((one) => one.fd === fd)?.target;
}
