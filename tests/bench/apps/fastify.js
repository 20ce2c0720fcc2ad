import Fastify from "fastify";

const fastify = Fastify();

fastify.get("/", () => "Hello, World!\n");

await fastify.listen({ port: Number(process.env.PORT ?? 3000), host: "127.0.0.1" });
