/// <reference lib="dom" />
// @ts-check
// The same as the picture, in words and numbers.
import { make, table } from "./dom.js";

/** @import { Snapshot } from "../../lesson.ts" */

/**
 * Returns a moment as tables.
 *
 * @param {Snapshot} snapshot
 * @returns {HTMLElement}
 */
export function tables(snapshot) {
  return make("div", {}, [
    table(
      "Processes",
      ["pid", "parent", "program", "state", "call", "pending", "handles"],
      snapshot.processes.map((process) => [
        String(process.pid),
        String(process.ppid),
        process.program + (process.line === undefined ? "" : `:${process.line.line}`),
        process.state,
        process.call ?? "",
        process.signals.pending.join(" "),
        process.signals.caught.join(" "),
      ]),
    ),
    table(
      "Descriptors",
      ["pid", "descriptor", "kind", "refers to"],
      snapshot.processes.flatMap((process) =>
        process.descriptors.map((descriptor) => [
          String(process.pid),
          String(descriptor.fd),
          descriptor.kind,
          descriptor.target,
        ])
      ),
    ),
    table(
      "Sockets and pipes",
      ["kind", "inode", "state", "local", "remote", "queue", "references"],
      snapshot.sockets.map((socket) => [
        socket.kind,
        String(socket.inode),
        socket.state,
        socket.local,
        socket.remote,
        socket.limit === undefined ? String(socket.queue) : `${socket.queue} of ${socket.limit}`,
        String(socket.holders.length),
      ]),
    ),
    table(
      "Clients",
      ["client", "state", "local", "sent", "received", "seconds"],
      snapshot.clients.map((client) => [
        String(client.number),
        client.state,
        client.local,
        String(client.sent),
        String(client.received),
        client.seconds.toFixed(1),
      ]),
    ),
  ]);
}
