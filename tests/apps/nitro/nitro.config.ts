//https://nitro.build/config
export default defineNitroConfig({
  compatibilityDate: "latest",
  srcDir: "server"
});
