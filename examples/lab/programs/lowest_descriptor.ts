// File descriptors: a new file gets the lowest free number
//
// The program closes its standard input. The socket that it creates next is descriptor 0.
//
//   deno run --allow-ffi lowest_descriptor.ts
import { AF_INET, close, pause, SOCK_STREAM, Socket } from "../../../mod.ts";

close(0);
const sock = new Socket(AF_INET, SOCK_STREAM);
console.log(`PID: ${Deno.pid}. socket: ${sock.fileno()}`);
pause(); // until Control-C
