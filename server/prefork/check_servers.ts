import { type Address, formatAddress } from "../../ffi/address.ts";
import { AppError } from "../app/load_app.ts";
import type { Program } from "../app/load_program.ts";
import type { Config } from "./options.ts";

/**
 * Rejects a program that cannot listen on the given addresses.
 *
 * @throws {AppError} If it is one.
 */
export function checkServers({ app, servers }: Program, { givenAddress, listen }: Config): void {
  const [only] = servers;
  if (!givenAddress.listen || only === undefined) return;
  if (app !== undefined) {
    throw new AppError(
      "Addresses can be given only to a program with one server: this one has a default export, " +
        `and listens on ${only.name}`,
    );
  }
  if (only.kind === "node" && listen.length > 1) {
    throw new AppError(
      `A server of Node's can listen on one address only, and ${listen.length} are given: ` +
        listen.map(({ address }) => formatAddress(address)).join(", "),
    );
  }
}

/**
 * Rejects options for UNIX sockets where a server has none.
 *
 * @param addresses Where it listens.
 * @param config The configuration.
 * @throws {AppError} If there are addresses, and all of them are ports.
 */
export function checkAccess(
  addresses: readonly Address[],
  { unixMode, unixGroup }: Config,
): void {
  const hasPath = addresses.some((address) => typeof address === "string");
  if ((unixMode === undefined && unixGroup === undefined) || addresses.length === 0 || hasPath) {
    return;
  }
  throw new AppError(
    `Cannot serve with ${unixMode === undefined ? "--unix-group" : "--unix-mode"} and without a ` +
      `UNIX socket: the program listens on ${addresses.map(formatAddress).join(", ")}`,
  );
}
