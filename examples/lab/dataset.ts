/**
 * An app with a million records in memory, about 360 MB of them: an index, a
 * model, a routing table. `deno serve --parallel` loads them once per thread.
 * Forked workers share the one copy that the master has loaded:
 *
 *     deno run -A server/cli.ts serve examples/lab/dataset.ts --workers 4
 *     curl localhost:8000/4711
 *     deno run -A server/cli.ts status
 */

const RECORDS = 1_000_000;

interface Record {
  readonly id: number;
  readonly name: string;
  readonly position: readonly [x: number, y: number];
  readonly neighbours: readonly number[];
}

// Parsed, as if read from a file. A string that was put together with `+` or a template is
// joined when it is first read, which would write to memory and so make it the worker's own.
const records: readonly Record[] = Array.from(
  { length: RECORDS },
  (_, id) => JSON.parse(record(id)),
);

function record(id: number): string {
  return JSON.stringify({
    id,
    name: `Place number ${id} of ${RECORDS}`,
    position: [Math.sin(id), Math.cos(id)],
    neighbours: [1, 2, 3, 5, 8, 13].map((step) => (id * step + step) % RECORDS),
  });
}

export default {
  fetch(request: Request): Response {
    const record = records[Number(new URL(request.url).pathname.slice(1))];
    if (record === undefined) return Response.json({ records: RECORDS });
    const neighbours = record.neighbours.map((id) => records[id]!.name);
    return Response.json({ ...record, neighbours });
  },
} satisfies Deno.ServeDefaultExport;
