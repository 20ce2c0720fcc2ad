export default defineEventHandler(() => {
  return { api: "works" };
});
