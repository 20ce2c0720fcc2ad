/** The names in a certificate and its period of validity, RFC 5280. */

/** A part of a certificate in DER, which is a tree of parts. */
interface Part {
  readonly tag: number;
  readonly content: Uint8Array;
}

const VERSION = 0xa0;
const EXTENSIONS = 0xa3;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const UTC_TIME = 0x17;
const DNS_NAME = 0x82;
/** The object identifier 2.5.29.17. */
const SUBJECT_ALTERNATIVE_NAME = "85,29,17";

/**
 * Returns the DNS names for which a certificate is valid, in lower case. One may begin with `*.`.
 *
 * @param cert A chain of certificates as PEM text, with the server's own first.
 */
export function dnsNames(cert: string): string[] {
  try {
    const wrapped = contentOf(cert).find(({ tag }) => tag === EXTENSIONS)!;
    return partsOf(partsOf(wrapped.content)[0]!.content).flatMap(namesIn);
  } catch {
    return []; // a certificate without extensions, or something else
  }
}

/**
 * Returns from when until when a certificate is valid, in milliseconds since 1970; `undefined` if it
 * does not say.
 *
 * @param cert As for {@linkcode dnsNames}.
 */
export function validity(cert: string): { from: number; until: number } | undefined {
  try {
    const [_number, _algorithm, _issuer, period] = contentOf(cert)
      .filter(({ tag }) => tag !== VERSION); // which the first version lacks
    const [from, until] = partsOf(period!.content).map(timeIn);
    return { from: from!, until: until! };
  } catch {
    return undefined;
  }
}

/** Returns the parts of a certificate that are signed. */
function contentOf(cert: string): Part[] {
  const [, base64 = ""] = cert.match(/-----BEGIN CERTIFICATE-----([^-]*)-----END/) ?? [];
  const der = Uint8Array.from(atob(base64.replace(/\s/g, "")), (char) => char.charCodeAt(0));
  const [certificate] = partsOf(der);
  const [toBeSigned] = partsOf(certificate!.content);
  return partsOf(toBeSigned!.content);
}

/** Understands a UTCTime, whose year has two digits, or a GeneralizedTime. */
function timeIn({ tag, content }: Part): number {
  const text = new TextDecoder().decode(content);
  const century = tag !== UTC_TIME ? "" : text < "50" ? "20" : "19";
  return Date.parse(
    (century + text).replace(/^(.{4})(..)(..)(..)(..)(..)/, "$1-$2-$3T$4:$5:$6"),
  );
}

function namesIn(extension: Part): string[] {
  const parts = partsOf(extension.content);
  const id = parts.find(({ tag }) => tag === OBJECT_IDENTIFIER)!.content;
  if (String(id) !== SUBJECT_ALTERNATIVE_NAME) return [];
  const value = parts.find(({ tag }) => tag === OCTET_STRING)!.content;
  return partsOf(partsOf(value)[0]!.content)
    .filter(({ tag }) => tag === DNS_NAME)
    .map(({ content }) => new TextDecoder().decode(content).toLowerCase());
}

function partsOf(der: Uint8Array): Part[] {
  const parts: Part[] = [];
  for (let at = 0; at < der.length;) {
    const tag = der[at++]!;
    let length = der[at++]!;
    if (length > 0x7f) { // the number of bytes of the length
      const end = at + (length & 0x7f);
      for (length = 0; at < end; at++) length = length * 256 + der[at]!;
    }
    parts.push({ tag, content: der.subarray(at, at + length) });
    at += length;
  }
  return parts;
}
