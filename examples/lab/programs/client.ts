// Plain client: socket, connect, sendall, recv
//
// It neither binds, listens nor accepts: the kernel gives its socket an address when it connects.
//
//   deno run --allow-ffi client.ts [port]
import { AF_INET, SOCK_STREAM, Socket, write } from "../../../mod.ts";

const [port = "8888"] = Deno.args;

const sock = new Socket(AF_INET, SOCK_STREAM);
sock.connect(["localhost", Number(port)]);
sock.sendall(new TextEncoder().encode("test"));
write(1, sock.recv(1024));
sock.close();
