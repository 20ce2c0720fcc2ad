import { Descriptor } from "../../../ffi/descriptor.ts";
import { readText } from "../../../ffi/proc.ts";
import { Socket } from "../../../ffi/socket.ts";
import { AppError } from "../../app/load_app.ts";
import type { Program } from "../../app/load_program.ts";
import type { MainModule } from "../../app/main_module.ts";
import { takeFreshWorker } from "../fresh_worker.ts";
import { tell } from "../orders.ts";
import { inheritScoreboard, type Scoreboard } from "../scoreboard.ts";
import { hasTelemetry } from "../telemetry.ts";
import { runWorker, type WorkerContext } from "./worker.ts";

/**
 * Runs the worker as which a master executed this program. Its options are the master's, whatever
 * a file says by now.
 *
 * @param program The program, or what it is loaded from.
 * @returns Never; the process exits.
 * @throws {AppError} If the master is another version of tine.
 */
export function runFreshWorker(program: Program | MainModule | string): Promise<never> {
  const { number, slot, descriptors } = takeFreshWorker();
  const channel = Socket.fromDescriptor(descriptors.channel);
  using file = new Descriptor(descriptors.scoreboard);
  using options = new Descriptor(descriptors.config);
  let scoreboard: Scoreboard;
  try {
    scoreboard = inheritScoreboard(file);
  } catch {
    const reason = "The master is another version of tine: SIGHUP replaces it";
    tell(channel, "failed", reason);
    throw new AppError(reason);
  }
  const run = hasTelemetry() ? runWithTelemetry : runWorker;
  return run({
    config: JSON.parse(readText(`/proc/self/fd/${options.fileno()}`)),
    program,
    channel,
    number,
    slot: scoreboard.slots[slot]!,
    scoreboard,
    listeners: descriptors.listeners.map((fd) => Socket.fromDescriptor(fd)),
    requested: [],
    exit: Deno.exit, // with the events and the telemetry of a program's end
  });
}

async function runWithTelemetry(context: WorkerContext): Promise<never> {
  const { exportMetrics } = await import("./telemetry_metrics.ts"); // it is rarely needed
  exportMetrics(context);
  return await runWorker(context);
}
