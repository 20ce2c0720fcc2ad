/** An app of Express's, which listens itself. */
import express from "npm:express@5.3.0";

const app = express();

app.get("/pid", (_request, response) => {
  response.send(`${Deno.pid}`);
});

app.listen(3000, "127.0.0.1");
