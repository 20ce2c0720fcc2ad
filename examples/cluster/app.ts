// The app of the cluster. Each answer tells which server gave it, and from which release.
const release = Deno.readTextFileSync(new URL("release.txt", import.meta.url)).trim();
// Each server has a folder.
const server = Deno.cwd().split("/").at(-1);
// Stands for the database: one file, to which all servers append.
const orders = Deno.env.get("ORDERS") ?? "/dev/null";

async function answer(request: Request): Promise<string> {
  const { pathname } = new URL(request.url);
  if (pathname === "/hang") { for (;;); }
  if (request.method !== "POST") return `${server} ${release} ${pathname.slice(1)}\n`;
  const order = await request.text();
  Deno.writeTextFileSync(orders, `${order}\n`, { append: true });
  return `${server} ${release} ${order}\n`;
}

function echo(request: Request): Response {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => socket.send(`${server} ${release} ${data}\n`);
  return response;
}

export default {
  async fetch(request: Request): Promise<Response> {
    if (request.headers.get("upgrade") === "websocket") return echo(request);
    return new Response(await answer(request));
  },
} satisfies Deno.ServeDefaultExport;
