export default defineEventHandler((event) => {
  return "Start by editing <code>server/routes/index.ts</code>.";
});
