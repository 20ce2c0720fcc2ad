import { formatAddress } from "../../ffi/address.ts";
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
