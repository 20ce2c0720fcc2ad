/**
 * The ids of requests, where an option names the field that they are passed on in: each request has
 * one when the app gets it, and its response has the same one.
 */
import { fieldOf, replaceField } from "../../../ffi/runtime/http_internals.ts";
import { requestIdMaker } from "../logs/request_id.ts";
import { withField } from "./response_field.ts";

/** A handler of requests. */
type Fetch = (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response>;

/** The relevant part of Node's `IncomingMessage`. */
interface NodeRequest {
  readonly headers: { [name: string]: string | undefined };
  readonly rawHeaders: string[];
}

/** The relevant part of Node's `ServerResponse`. */
interface NodeResponse {
  setHeader(name: string, value: string): void;
}

/** Gives ids to requests. */
export interface RequestIds {
  /** Gives a request an id unless it has one. */
  give(request: Request): void;
  /** Wraps a handler: a response has the id of its request. */
  passOn(fetch: Fetch): Fetch;
  /** Gives a request to a server of Node's an id, and its response unless it is an upgrade. */
  giveNode(request: NodeRequest, response?: NodeResponse): void;
}

/**
 * Prepares to give ids to requests. Call it in the worker.
 *
 * @param name The name of the field, in lower case.
 */
export function requestIds(name: string): RequestIds {
  const idOf = requestIdMaker();
  return {
    give(request): void {
      const field = fieldOf(request, name);
      const id = idOf(field);
      if (id !== field) replaceField(request, name, id);
    },
    passOn(fetch): Fetch {
      return (request, info) => {
        const id = fieldOf(request, name)!; // Deno forgets it with the response
        const mark = (response: Response) =>
          response instanceof Response && response.status >= 200
            ? withField(response, name, id)
            : response;
        const response = fetch(request, info);
        return response instanceof Promise ? response.then(mark) : mark(response);
      };
    },
    giveNode({ headers, rawHeaders }, response): void {
      const id = idOf(headers[name] ?? null);
      if (id !== headers[name]) {
        headers[name] = id;
        for (let i = rawHeaders.length - 2; i >= 0; i -= 2) {
          if (rawHeaders[i]!.toLowerCase() === name) rawHeaders.splice(i, 2);
        }
        rawHeaders.push(name, id);
      }
      response?.setHeader(name, id);
    },
  };
}
