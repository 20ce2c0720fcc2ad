// An app that answers with what a file contained when the app was loaded
//
//   echo 1 >version
//   VERSION=version deno run -A server/cli.ts serve examples/lab/programs/version.ts --pid-file pid
//   curl localhost:8000/
//   echo 2 >version
//   kill -HUP $(cat pid)            # loads the app again, and replaces the workers one by one

const version = Deno.readTextFileSync(Deno.env.get("VERSION")!).trim();

export default {
  fetch: () => new Response(`version ${version}\n`),
} satisfies Deno.ServeDefaultExport;
