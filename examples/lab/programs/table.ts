// An app with a table of 64 MiB, which is filled once, before the workers are forked
//
// The workers have the master's pages, copy-on-write: reading shares them, and a page that a worker
// writes to becomes its own.
//
//   deno run -A server/cli.ts serve examples/lab/programs/table.ts --workers 2
//   curl localhost:8000/read        # reads the whole table
//   curl localhost:8000/write/32    # writes to 32 MiB of it

const PAGE = 4096;
const MEBIBYTE = 1024 * 1024;

const table = new Uint8Array(64 * MEBIBYTE).fill(1);

function read(): number {
  let sum = 0;
  for (let at = 0; at < table.length; at += PAGE) sum += table[at]!;
  return sum;
}

function write(bytes: number): void {
  for (let at = 0; at < bytes; at += PAGE) table[at]!++; // one byte is enough for a page
}

export default {
  fetch(request: Request): Response {
    const [, action, mebibytes] = new URL(request.url).pathname.split("/");
    if (action === "write") write(Number(mebibytes) * MEBIBYTE);
    return new Response(`${read()}\n`);
  },
} satisfies Deno.ServeDefaultExport;
