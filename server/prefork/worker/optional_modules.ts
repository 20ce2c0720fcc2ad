/**
 * The modules that a worker needs with some options, and for some programs, only. Each costs time at
 * a server's start, so they are loaded if they are needed; and before the fork, because a child
 * would load them again each time.
 */
import type { Program } from "../../app/load_program.ts";
import type { Config } from "../options.ts";

/** The modules; `undefined` are those that are not needed. */
export interface OptionalModules {
  readonly accessLog: typeof import("../logs/access_log.ts") | undefined;
  readonly requestIds: typeof import("./request_ids.ts") | undefined;
  readonly proxies: typeof import("./behind_proxy.ts") | undefined;
  readonly proxyGate: typeof import("./proxy_gate.ts") | undefined;
  readonly nodeServer: typeof import("./node_server.ts") | undefined;
}

/** Loads the modules that a configuration, and the servers of a program, need. */
export async function loadOptionalModules(
  { accessLog, requestIdHeader, trustProxy, proxyProtocol }: Config,
  servers: Program["servers"],
): Promise<OptionalModules> {
  return {
    accessLog: accessLog === undefined ? undefined : await import("../logs/access_log.ts"),
    requestIds: requestIdHeader === undefined ? undefined : await import("./request_ids.ts"),
    proxies: trustProxy.length === 0 ? undefined : await import("./behind_proxy.ts"),
    nodeServer: servers.some(({ kind }) => kind === "node")
      ? await import("./node_server.ts")
      : undefined,
    proxyGate: proxyProtocol ? await import("./proxy_gate.ts") : undefined,
  };
}
