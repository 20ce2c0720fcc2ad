import { assertEquals } from "@std/assert";
import { startReason } from "../server/prefork/start_reason.ts";
import { VERSION } from "../server/version.ts";
import { ROOT } from "./support.ts";

Deno.test("startReason() understands what the master notes about workers", () => {
  const ends = [
    ["start", "start"],
    ["SIGHUP", "reload"],
    ["SIGUSR2", "replace"],
    ["leave", "scale"],
    ["stop", "scale"],
    ["1000 requests", "requests"],
    ["300 MB of private memory", "memory"],
    ["killed because its event loop was blocked for 30 s", "timeout"],
    ["killed because it was not ready within 60 s", "timeout"],
    ["killed by SIGKILL", "crash"],
    ["exited with code 1", "crash"],
    ["exited with code 0", "crash"],
  ] as const;
  for (const [end, reason] of ends) assertEquals(startReason(end), reason, end);
});

Deno.test("the version in the code is that of the package", () => {
  const { version } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
  assertEquals(VERSION, version);
});
