import { assertEquals } from "@std/assert";
import { hostOf, hostRenamer } from "../server/app/request_host.ts";

Deno.test("hostRenamer() gives a request and its copies the real host, without a default port", () => {
  const cases = [
    ["http://localhost:4000/a", "localhost:80", "http://localhost/a"],
    ["http://localhost:4000/?http://localhost:4000/", "a:1", "http://a:1/?http://localhost:4000/"],
    ["http://localhost:4000/a", "[fe80::1]:8443", "http://[fe80::1]:8443/a"],
    ["http://localhost:4000/a", "localhost:443", "http://localhost:443/a"],
    ["https://localhost:4000/a", "localhost:443", "https://localhost/a"],
    ["https://localhost:4000/a", "localhost:80", "https://localhost:80/a"],
    ["http+unix://localhost:4000/a", "%2Frun%2Fapp%3A80", "http+unix://%2Frun%2Fapp%3A80/a"],
    ["http://other:4000/a", "localhost:80", "http://other:4000/a"],
  ] as const;
  for (const [url, to, renamed] of cases) {
    const request = new Request(url);
    assertEquals(hostRenamer("localhost:4000", to)(request), renamed);
    assertEquals(request.url, renamed);
    assertEquals(request.clone().url, renamed);
    assertEquals(new Request(request).url, renamed);
    assertEquals(Object.keys(request), []);
  }
});

Deno.test("hostOf() names an address as Deno's server does", () => {
  const tcp = (hostname: string) => hostOf({ transport: "tcp", hostname, port: 80 });
  assertEquals(["127.0.0.1", "0.0.0.0", "::", "::1"].map(tcp), Array(4).fill("localhost:80"));
  assertEquals(["10.0.0.1", "fe80::1"].map(tcp), ["10.0.0.1:80", "[fe80::1]:80"]);
  assertEquals(hostOf({ transport: "unix", path: "/run/\u00fc.sock" }), "%2Frun%2F%C3%BC%2Esock");
});
