// errorserver, whose user may have few processes
//
//   deno run -A errorserver_limited.ts port room [uid]
import "./limit_processes.ts";
import "../../chapter20/errorserver.ts";
