import { LOCK_EX, LOCK_UN, O_CLOEXEC, O_RDWR, open } from "../../../mod.ts";
import type { Lesson } from "../lesson.ts";
import { lockWaits } from "../observe/locks.ts";
import { childrenOf } from "./family.ts";

const PROGRAM = "examples/chapter20/lockingserver.ts";

/** Children that read and write one file. */
export const lesson: Lesson = {
  name: "locking",
  title: "A server whose children share a file",
  source: "Foundations of Python Network Programming, chapter 20: lockingserver.py",
  question:
    "Each child reads a file, tells its client when it was last seen, and writes the file again. " +
    "What happens to a child that wants to read while another process is writing?",
  answer:
    "It waits in flock(). Any number of processes may have a shared lock (LOCK_SH), to read, or one " +
    "an exclusive lock (LOCK_EX), to write. The lock is advisory: it holds up those that ask for " +
    "it, and nobody else. To change the file, one exclusive lock covers reading and writing: with a " +
    "lock for each, another child could write in between, and its record would be lost.",
  programs: [{
    file: PROGRAM,
    decisive: "fd.flock(LOCK_SH); // others may read now, but not write",
    differsFrom: "examples/chapter20/echoserver.ts",
  }],
  read: ["flock(2)", "proc_locks(5)", PROGRAM],
  next: "flock",
  async run(stage) {
    const folder = stage.folder();
    const server = await stage.start({ program: PROGRAM, args: ["PORT"], folder });
    const connect = () => stage.client(server.port!, { request: null });
    for (const [client, second] of [["first", "never"], ["second", "last"]] as const) {
      const visitor = connect();
      await visitor.ended();
      stage.expect(
        `second line of the reply to the ${client} client`,
        visitor.reply().split("\n")[1],
        (line) => line?.includes(second) === true,
        second === "never" ? "never seen before" : "when it was last seen",
      );
    }
    const path = `${folder}/lastaccess.txt`;

    stage.say(
      `The lab locks the file exclusively, as \`flock ${path} sleep 60\` would, and a third client ` +
        "connects.",
    );
    const fd = open(path, O_RDWR | O_CLOEXEC);
    try {
      fd.flock(LOCK_EX);
      const visitor = connect();
      const wait = await stage.until("a child that waits for the lock", () => {
        const children = childrenOf(server.pid, stage.snapshot()).map(({ pid }) => pid);
        return lockWaits(children)[0];
      });
      await visitor.answered();
      await stage.pause(3, 0.3, "to see whether the client gets more than a welcome");
      stage.draw("The child of the third client waits for the lock");
      const child = stage.snapshot().processes.find(({ pid }) => pid === wait.pid);
      stage.expect("it waits in", child?.call, (call) => call === "flock", "flock()");
      stage.expect(
        "process that has the lock",
        wait.holder,
        (pid) => pid === Deno.pid,
        `${Deno.pid}: this lab`,
      );
      stage.expect(
        "lines that the client has, as long as the file is locked",
        visitor.reply().split("\n").length - 1,
        (lines) => lines === 1,
        "1: the child could not read the file",
      );
      stage.say("The lab unlocks the file.");
      fd.flock(LOCK_UN);
      await visitor.ended();
      stage.expect(
        "lines that it has in the end",
        visitor.reply().split("\n").length - 1,
        (lines) => lines === 3,
        "3",
      );
    } finally {
      fd.close();
    }
    stage.expect(
      "records in the file",
      Deno.readTextFileSync(path).split("\n").length - 1,
      (count) => count === 1,
      "1, for 127.0.0.1",
    );
  },
};
