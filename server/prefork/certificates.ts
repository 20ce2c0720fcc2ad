/** The certificates of a server: how they are read, checked, and chosen by the name of a server. */
import { canChooseCertificate } from "../../ffi/runtime/certificate_choice.ts";
import type { ServerTls } from "../../ffi/runtime/throw_away_address.ts";
import { AppError } from "../app/load_app.ts";
import { keptPem, readPem } from "./host/pem_files.ts";
import { dnsNames, validity } from "./certificate_content.ts";
import type { Certificate, ListenAddress } from "../listen.ts";

/**
 * Reads the files of all certificates that are in files.
 *
 * @param listen The addresses with the certificates.
 * @param purpose What the files are for, in error messages, such as ` for --cert`.
 * @returns The addresses with what the files contain.
 * @throws {AppError} If a file cannot be read.
 */
export function readCertificates(
  listen: readonly ListenAddress[],
  purpose: (part: "cert" | "key") => string = () => "",
): ListenAddress[] {
  const read = (path: string, part: "cert" | "key") => {
    try {
      return readPem(path);
    } catch (error) {
      throw new AppError(`Cannot read ${path}${purpose(part)}: ${(error as Error).message}`);
    }
  };
  return listen.map((one) => ({
    ...one,
    certificates: one.certificates.map((certificate) => {
      const { files } = certificate;
      if (files === undefined) return certificate;
      const [cert, key] = keptPem([files.cert, files.key]) ?? [];
      if (cert !== undefined && key !== undefined) return { cert, key, files };
      return { cert: read(files.cert, "cert"), key: read(files.key, "key"), files };
    }),
  }));
}

/**
 * Checks the certificates of a server, so that not every worker fails on them.
 *
 * @param listen The addresses with the certificates.
 * @throws {AppError} If a certificate or its key cannot be used.
 * @throws {Deno.errors.NotCapable} Without `--allow-net=127.0.0.1`.
 */
export function checkCertificates(listen: readonly ListenAddress[]): void {
  for (const { certificates } of listen) {
    for (const certificate of certificates) checkCertificate(certificate);
    if (certificates.length < 2) continue;
    if (!canChooseCertificate()) {
      throw new AppError(
        "This Deno cannot serve several certificates on one address. Use one with several names",
      );
    }
    for (const certificate of certificates.slice(1)) {
      if (dnsNames(certificate.cert).length > 0) continue;
      throw new AppError(
        `Cannot use the certificate${nameOf(certificate)}: it is not the first one, and has no ` +
          "names (subjectAltName) by which a client could ask for it",
      );
    }
  }
}

function checkCertificate(certificate: Certificate): void {
  const { cert, key } = certificate;
  try {
    Deno.listenTls({ hostname: "127.0.0.1", port: 0, cert, key }).close();
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error; // it is not about the certificate
    const { files } = certificate;
    throw new AppError(
      `Cannot use the certificate${nameOf(certificate)} and its key${
        files === undefined ? "" : ` ${files.key}`
      }: ${reasonOf(error as Error, key)}`,
      { cause: error },
    );
  }
}

function reasonOf({ message }: Error, key: string): string {
  if (key.includes("ENCRYPTED")) {
    return "the key is encrypted. `openssl pkey -in KEY -out FILE` writes one that is not";
  }
  return message.includes("KeyMismatch") ? "it is the key of another certificate" : message;
}

/**
 * Returns a line for each certificate that clients refuse now, because it has expired or is not
 * valid yet.
 *
 * @param listen The addresses with the certificates.
 */
export function describeInvalid(listen: readonly ListenAddress[]): string[] {
  const lines = listen.flatMap(({ certificates }) => certificates).flatMap((certificate) => {
    const { from, until } = validity(certificate.cert) ?? { from: -Infinity, until: Infinity };
    const [name] = dnsNames(certificate.cert);
    const what = `The certificate${nameOf(certificate)}${name === undefined ? "" : ` of ${name}`}`;
    if (until < Date.now()) return `${what} expired on ${timeOf(until)}: clients refuse it`;
    if (from > Date.now()) return `${what} is not valid before ${timeOf(from)}: clients refuse it`;
    return [];
  });
  return [...new Set(lines)]; // it may be that of several addresses
}

function timeOf(time: number): string {
  return new Date(time).toISOString().replace(".000", "");
}

function nameOf({ files }: Certificate): string {
  return files === undefined ? "" : ` ${files.cert}`;
}

/** The number of names for which a worker chooses certificates: Deno never forgets a choice. */
const MOST_NAMES = 10_000;

/**
 * Returns with which certificates a server speaks TLS; `undefined` if it does not.
 *
 * @param certificates The certificates. The first one is for all names that are in none of them.
 * @param onManyNames Called when clients have asked for many different names, each of which takes up
 *   memory from then on.
 */
export function tlsOf(
  certificates: readonly Certificate[],
  onManyNames: () => void,
): ServerTls | undefined {
  const [first] = certificates;
  if (first === undefined) return undefined;
  const { cert, key } = first;
  if (certificates.length === 1) return { cert, key };
  const byName = new Map<string, Certificate>();
  for (const certificate of certificates) {
    for (const name of dnsNames(certificate.cert)) {
      if (!byName.has(name)) byName.set(name, certificate);
    }
  }
  let names = 0;
  return {
    cert,
    key,
    choose(name: string): Certificate {
      if (++names === MOST_NAMES) onManyNames();
      const wanted = name.toLowerCase();
      return byName.get(wanted) ?? byName.get(wanted.replace(/^[^.]+/, "*")) ?? first;
    },
  };
}
