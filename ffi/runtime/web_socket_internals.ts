/** Deno's internal state of a WebSocket, under symbols of its own. */
import { ASSUMPTIONS } from "./assumptions.ts";

const { symbol: ROLE, client: CLIENT } = ASSUMPTIONS.webSocketRole.value;
let roleKey: symbol | undefined;

/**
 * Closes a server's WebSocket as RFC 6455 section 7.1.2 says: messages that are on their way still
 * arrive, until the client has answered with a close frame. A server of Deno's instead closes the
 * connection at the first of them, perhaps before it has sent its close frame; a client's WebSocket
 * does wait, so this makes it one.
 *
 * @param socket The WebSocket, which is open.
 * @param code The status code.
 * @param reason The reason.
 */
export function closeHandshake(socket: WebSocket, code: number, reason: string): void {
  socket.close(code, reason);
  roleKey ??= Object.getOwnPropertySymbols(socket).find(({ description }) => description === ROLE);
  if (roleKey !== undefined) Object.assign(socket, { [roleKey]: CLIENT });
}
