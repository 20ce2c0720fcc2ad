// File descriptors
//
// To the kernel an open file is a small number of the process: 0, 1 and 2 are the standard
// streams, which the shell opened. A socket has one too, and write needs nothing but the number.
import { AF_INET, isatty, SOCK_STREAM, Socket, write } from "../../mod.ts";

["standard input", "standard output", "standard error"].forEach((name, fd) => {
  console.log(`${name}: ${fd}${isatty(fd) ? ", a terminal" : ""}`);
});

const sock = new Socket(AF_INET, SOCK_STREAM);
console.log(`socket: ${sock.fileno()}`);

write(1, new TextEncoder().encode("hello\n"));
