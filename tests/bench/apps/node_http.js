import { createServer } from "node:http";

createServer((req, res) => {
  res.end("Hello, World!\n");
}).listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
