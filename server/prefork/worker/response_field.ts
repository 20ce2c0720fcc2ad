import { wholeBody } from "../../../ffi/runtime/http_internals.ts";

/**
 * Sets a field of a response's header, for one request.
 *
 * @param response The response. It must not be one of an upgrade.
 * @param name The field's name.
 * @param value Its value.
 * @returns The response, or a copy.
 */
export function withField(response: Response, name: string, value: string): Response {
  // An app may return a response without a body again, and a response from fetch() is immutable.
  if (wholeBody(response) !== null) {
    try {
      response.headers.set(name, value);
      return response;
    } catch {
      // copied below
    }
  }
  const copy = new Response(response.body, response);
  copy.headers.set(name, value);
  return copy;
}
