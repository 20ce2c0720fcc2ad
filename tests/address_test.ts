import { assert, assertEquals } from "@std/assert";
import fc from "npm:fast-check@4.10.2";
import { decodeAddress, encodeAddress } from "../ffi/address.ts";
import * as tine from "../mod.ts";
import { scratch } from "./support.ts";

const port = fc.integer({ min: 0, max: 65535 });
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const ipv4 = fc.array(fc.nat(255), { minLength: 4, maxLength: 4 }).map((bytes) => bytes.join("."));
const group = fc.nat(0xffff);
// Runs of zeros are what makes the text difficult, and IPv4 addresses in it.
const ipv6 = fc.oneof(
  fc.array(fc.oneof(fc.constant(0), group), { minLength: 8, maxLength: 8 }),
  fc.tuple(group, group).map((ipv4) => [0, 0, 0, 0, 0, 0xffff, ...ipv4]),
);

// What decoders of UTF-8 are tempted to leave out or replace is rare among all characters.
const character = fc.oneof(
  fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
  fc.constantFrom("\0", "\ufeff", "\ufffd", "\u{10ffff}", "\n", "a"),
);

/** Text of so many bytes in UTF-8 at most, often of just as many. */
function text(bytes: number, isAllowed = (_: string) => true): fc.Arbitrary<string> {
  const size = { minLength: 1, maxLength: bytes, size: "max" } as const;
  return fc.array(character.filter(isAllowed), size).map((characters) => {
    while (new TextEncoder().encode(characters.join("")).length > bytes) characters.pop();
    return characters.join("");
  }).filter((text) => text !== "");
}

const path = text(107, (character) => character !== "\0");
const abstract = text(107).map((name) => `\0${name}`);

function roundTrip(family: number, address: tine.Address): tine.Address {
  const bytes = encodeAddress("bind", family, address);
  return decodeAddress(bytes, bytes.length);
}

function isMapped(groups: readonly number[]): boolean {
  return groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
}

/** An IPv6 address as URLs have it, RFC 5952, which knows no dotted part. */
function canonical(host: string): string {
  return new URL(`http://[${host}]/`).hostname.slice(1, -1);
}

Deno.test("an IPv4 address is decoded from a sockaddr as it was encoded", () => {
  fc.assert(fc.property(ipv4, port, (host, port) => {
    assertEquals(roundTrip(tine.AF_INET, [host, port]), [host, port]);
  }));
});

Deno.test("an IPv6 address is decoded from a sockaddr as it was encoded, in its shortest form", () => {
  fc.assert(fc.property(ipv6, port, uint32, uint32, (groups, port, flowinfo, scopeId) => {
    const written = groups.map((group) => group.toString(16)).join(":");
    const address = roundTrip(tine.AF_INET6, [written, port, flowinfo, scopeId]);
    const [host, ...rest] = address as tine.InetAddress;
    assertEquals(rest, [port, flowinfo, scopeId]);
    assertEquals(canonical(host), canonical(written));
    if (isMapped(groups)) assert(/^::ffff:(\d+\.){3}\d+$/.test(host), host);
    else assertEquals(host, canonical(written));
    // And as it came out it goes in.
    assertEquals(roundTrip(tine.AF_INET6, address), address);
  }));
});

Deno.test("an IPv6 address may be written in any form", () => {
  fc.assert(fc.property(fc.ipV6(), (written) => {
    const [host] = roundTrip(tine.AF_INET6, [written, 80]) as tine.InetAddress;
    assertEquals(canonical(host), canonical(written));
  }));
});

Deno.test("a UNIX address is decoded from a sockaddr as it was encoded, an abstract one with its NULs", () => {
  fc.assert(fc.property(fc.oneof(path, abstract), (address) => {
    assertEquals(roundTrip(tine.AF_UNIX, address), address);
  }));
  assertEquals(roundTrip(tine.AF_UNIX, ""), "");
});

Deno.test("bind() sets the address that getsockname() returns", async () => {
  await using folder = scratch();
  const bound = (family: number, address: tine.Address) => {
    using socket = new tine.Socket(family, tine.SOCK_DGRAM);
    socket.bind(address);
    return socket.getsockname();
  };
  const inFolder = text(60, (character) => character !== "\0" && character !== "/")
    .filter((name) => name !== "." && name !== "..").map((name) => `${folder.path}/${name}`);
  fc.assert(fc.property(fc.uniqueArray(inFolder, { maxLength: 5 }), (paths) => {
    for (const path of paths) {
      assertEquals(bound(tine.AF_UNIX, path), path);
      assert(Deno.lstatSync(path).isSocket);
      Deno.removeSync(path);
    }
  }));
  fc.assert(fc.property(abstract, (name) => assertEquals(bound(tine.AF_UNIX, name), name)));
  fc.assert(fc.property(fc.tuple(fc.nat(255), fc.nat(255), fc.nat(253)), ([a, b, c]) => {
    const host = `127.${a}.${b}.${c + 1}`;
    assertEquals(bound(tine.AF_INET, [host, 0])[0], host);
  }));
});
