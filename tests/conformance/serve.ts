/** Serves an app on one rung: `serve.ts iterative|forking app.ts [options as JSON]`. */
import * as tine from "../../mod.ts";
import { AppError, loadApp } from "../../server/app/load_app.ts";
import { serveFetchForking } from "../../server/gateway/forking.ts";
import { serveFetchIterative } from "../../server/gateway/iterative.ts";

const [rung, file, options = "{}"] = Deno.args;
tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM, tine.SIGINT] });
const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
listenSocket.bind(["127.0.0.1", 0]);
listenSocket.listen(1024);
try {
  const app = await loadApp(file!);
  console.log(`port ${listenSocket.getsockname()[1]}`);
  const serve = rung === "forking" ? serveFetchForking : serveFetchIterative;
  await serve(listenSocket, app, JSON.parse(options));
  console.log("stopped");
  Deno.exit(0); // whatever the app is still doing
} catch (error) {
  if (!(error instanceof AppError)) throw error;
  console.error(error.message);
  Deno.exit(1);
}
