/** The trace that a request belongs to, in the words of OpenTelemetry. */

/** Where a request is in a trace. */
export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** The span of the request in this process or, without telemetry, the caller's: 16 digits. */
  readonly spanId: string;
}

/**
 * Parses the `traceparent` field of a request's header.
 *
 * @param field The field.
 * @returns The caller's trace and span; `undefined` if the field is missing or invalid.
 * @see {@link https://www.w3.org/TR/trace-context/#traceparent-header Trace Context}
 */
export function parseTraceparent(field: string | null): TraceContext | undefined {
  const [, traceId, spanId] = field?.match(TRACEPARENT) ?? [];
  return traceId === undefined ? undefined : { traceId, spanId: spanId! };
}

// A later version may have more after the flags; 00 has not. Ids of zeros are invalid.
const TRACEPARENT =
  /^(?!ff)(?:00(?=.{53}$)|(?!00)[\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-[\da-f]{2}(?:-.*)?$/;
