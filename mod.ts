/**
 * fork(2) for Deno.
 *
 * @module
 */
export * from "./ffi/mod.ts";
