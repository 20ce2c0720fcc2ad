import type { Stage } from "../lesson.ts";

/** Compares a listening socket's limit with its backlog, if the kernel tells it. */
export function expectLimit(stage: Stage, limit: number | undefined, backlog: number): void {
  if (limit === undefined) return stage.note("the queue's limit", "not told by this kernel");
  stage.expect("the queue's limit", limit, (value) => value === backlog, `${backlog}`);
}
