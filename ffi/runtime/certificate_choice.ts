/**
 * How a server of Deno's gets several certificates: TLS tells it the name of the server for which
 * the client asks. Deno can ask a function for the certificate, but `Deno.serve` does not pass on
 * the option for that, whose name is a symbol.
 */
import { ASSUMPTIONS } from "./assumptions.ts";

/** A certificate chain and its private key, as PEM text. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** Whether {@linkcode withCertificateChoice} works in this Deno. */
export function canChooseCertificate(): boolean {
  return typeof optionName() === "symbol";
}

/**
 * Has servers ask for their certificate.
 *
 * @param choose Returns the certificate for a name, which is empty if the client sends none. It is
 *   called once for each name.
 * @param serve Starts the servers, which have a certificate. It must not wait for anything.
 * @returns The result of `serve`.
 * @throws {TypeError} If this Deno has no such option, or the program has frozen `Object.prototype`.
 */
export function withCertificateChoice<T>(choose: (name: string) => KeyPair, serve: () => T): T {
  const name = optionName();
  if (name === undefined) throw new TypeError("This Deno cannot choose a certificate by name");
  // Deno.serve() makes an object of options of its own, which inherits this one.
  Object.defineProperty(Object.prototype, name, { value: choose, configurable: true });
  try {
    return serve();
  } finally {
    Reflect.deleteProperty(Object.prototype, name);
  }
}

function optionName(): symbol | undefined {
  const { internal } = Deno as unknown as { internal: symbol };
  const internals =
    (Deno as unknown as Record<symbol, Record<string, unknown> | undefined>)[internal];
  const name = internals?.[ASSUMPTIONS.certificateChoice.value];
  return typeof name === "symbol" ? name : undefined;
}
