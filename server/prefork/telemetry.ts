/**
 * Deno's OpenTelemetry, which works in a process that was executed, and not in a forked one: the
 * thread that exports is the parent's. The master, which has nothing to export, would wait for it
 * when it ends. It therefore runs without, and each fresh worker with it.
 */
import type { TraceContext } from "./logs/trace_context.ts";
import { getenv, setenv, unsetenv } from "../../ffi/environment.ts";

/** The variable of the environment that turns it on. */
const SWITCH = "OTEL_DENO";
/** Where its value is kept meanwhile. */
const KEPT = "TINE_OTEL_DENO";

/**
 * Turns telemetry off for the program that this process executes next.
 *
 * @returns Whether this process has it on.
 */
export function withholdTelemetry(): boolean {
  const value = getenv(SWITCH);
  if (value?.toLowerCase() !== "true") return false;
  setenv(KEPT, value);
  // Not removed: --env-file sets variables that are missing.
  setenv(SWITCH, "false");
  return true;
}

/** Whether telemetry was withheld from this process. */
export function isTelemetryWithheld(): boolean {
  return getenv(KEPT) !== undefined;
}

/** Restores the environment in a worker: a program that it executes has telemetry again. */
export function restoreTelemetry(): void {
  const value = getenv(KEPT);
  if (value === undefined) return;
  setenv(SWITCH, value);
  unsetenv(KEPT);
}

/** Whether telemetry is on in this process, which must not be forked from one that has it. */
export function hasTelemetry(): boolean {
  return getenv(SWITCH)?.toLowerCase() === "true";
}

/** The key under which OpenTelemetry's API keeps the span in a context. */
const SPAN = Symbol.for("OpenTelemetry Context Key SPAN");

/** The relevant part of OpenTelemetry's `Context`. */
interface Context {
  getValue(key: symbol): { spanContext(): TraceContext } | undefined;
}

/**
 * Returns the span that Deno has begun for the request that is being handled. There is none without
 * telemetry, and in a server of Node's, whose spans are not active in their handlers.
 */
export function activeSpan(): TraceContext | undefined {
  const context: Context | undefined = Deno.telemetry.contextManager.active();
  return context?.getValue(SPAN)?.spanContext();
}
