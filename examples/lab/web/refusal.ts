/** A request that the page's server does not grant. The message is one plain line, for the reader. */
export class Refusal extends Error {
  /** The class's name. */
  override readonly name = "Refusal";
  /** The HTTP status: 400, 403, 404, 405, 409, 413 or 429. */
  readonly status: number;

  /**
   * @param status The HTTP status.
   * @param message Why, in one line.
   */
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/**
 * Returns the response to a request that is not granted.
 *
 * @param refusal Why.
 * @param headers Further headers.
 */
export function refuse(refusal: Refusal, headers: Record<string, string> = {}): Response {
  return Response.json({ error: refusal.message }, { status: refusal.status, headers });
}
