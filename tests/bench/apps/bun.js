// One of several processes of Bun that serve a fetch app on one port: bun.js APP
const { default: app } = await import(process.argv[2]);
Bun.serve({ ...app, port: Number(process.env.PORT), hostname: "127.0.0.1", reusePort: true });
