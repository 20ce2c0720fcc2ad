// An app that upgrades to a WebSocket: open it in a browser and type.
//
// Each connection belongs to one process. If there are several, clients that communicate with each
// other need something that connects the processes, such as a database.
const PAGE = `<!doctype html>
<meta charset="utf-8">
<title>Echo</title>
<h1>Echo</h1>
<form><input autofocus placeholder="Say something"> <button>Send</button></form>
<pre></pre>
<script>
  const output = document.querySelector("pre");
  const input = document.querySelector("input");
  const show = (line) => output.textContent += line + "\\n";
  const socket = new WebSocket(location.href.replace("http", "ws"));
  socket.onopen = () => show("connected");
  socket.onmessage = ({ data }) => show(data);
  socket.onclose = () => show("closed");
  document.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    socket.send(input.value);
    input.value = "";
  };
</script>
`;

function echo(request: Request): Response {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
}

export default {
  fetch(request: Request): Response {
    if (request.headers.get("upgrade") === "websocket") return echo(request);
    return new Response(PAGE, { headers: { "content-type": "text/html" } });
  },
} satisfies Deno.ServeDefaultExport;
