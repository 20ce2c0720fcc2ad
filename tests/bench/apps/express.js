import express from "express";

const app = express();

app.get("/", (req, res) => {
  res.send("Hello, World!\n");
});

app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
