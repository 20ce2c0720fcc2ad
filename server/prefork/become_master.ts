import { becomeForkable } from "../../ffi/forking/become_forkable.ts";
import { runAgain } from "../../ffi/forking/run_again.ts";
import { programSignals } from "../../ffi/signal_mask.ts";
import { HANDLED_SIGNALS } from "./signals.ts";
import { withholdTelemetry } from "./telemetry.ts";

/**
 * Makes this process one that can be a master: forkable, and without telemetry. To that end the
 * program is run again from its start, unless all is in order.
 *
 * @throws As `becomeForkable()` does.
 */
export function becomeMaster(): void {
  const hadTelemetry = withholdTelemetry();
  becomeForkable({ signals: HANDLED_SIGNALS });
  if (hadTelemetry) runAsMaster();
}

/** Runs this process's program again from its start, as one that can be a master. */
export function runAsMaster(): never {
  const own = new Set(HANDLED_SIGNALS);
  runAgain(own, { program: programSignals().difference(own) });
}
