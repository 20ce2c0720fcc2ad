// File descriptors
//
// A process refers to an open file by a small number, and /proc/self/fd shows what each number
// refers to. 0, 1 and 2 are the standard streams, which the shell opened: try `</dev/null`, `|
// cat`. (If the shell has closed one, `0<&-`, Deno opens /dev/null in its place.)
//
// A new file gets the lowest free number. For the article's socket, that is 3; here, Deno has
// already opened files for its event loop and its caches.
//
// At its end it sleeps, so that `ls -l /proc/PID/fd` can show the same.
//
//   deno run --allow-ffi descriptors.ts [seconds]
import { AF_INET, readlink, sleep, SOCK_STREAM, Socket, write } from "../../mod.ts";

const [seconds = "0"] = Deno.args;
if (!/^\d{1,9}(\.\d+)?$/.test(seconds)) {
  console.error(`Cannot sleep for "${seconds}" seconds: expected a number such as 60 or 0.5`);
  Deno.exit(2);
}
const SECONDS = Number(seconds);

function show(name: string, fd: number): void {
  let file = "closed";
  try {
    file = readlink(`/proc/self/fd/${fd}`);
  } catch {
    // ENOENT: no such descriptor
  }
  console.log(`${name}: ${fd}, ${file}`);
}

const sock = new Socket(AF_INET, SOCK_STREAM);

show("standard input", 0);
show("standard output", 1);
show("standard error", 2);
for (let fd = 3; fd < sock.fileno(); fd++) show("already open", fd);
show("socket", sock.fileno());

write(1, new TextEncoder().encode("hello\n"));
sleep(SECONDS);
