import { H3, serve } from "h3";

const app = new H3()
  .get("/", (event) => "⚡️ Tadaa!")
  .post("/echo", (event) => event.req.text());

serve(app, { port: 3000 });
