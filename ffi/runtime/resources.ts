/** The table of resources of Deno: what a program holds open. */
import { ASSUMPTIONS } from "./assumptions.ts";

const NAMES = ASSUMPTIONS.resourceNames.value;

/** What a resource is. */
export type ResourceKind = keyof typeof NAMES;

/** A resource of Deno. */
export interface Resource {
  readonly number: number;
  readonly kind: ResourceKind;
}

interface Core {
  resources?(): Record<string, string>;
}

const KINDS = new Map(
  Object.entries(NAMES).flatMap(([kind, names]) =>
    names.map((name) => [name as string, kind as ResourceKind])
  ),
);

/**
 * Returns the resources that cannot be used after a fork, oldest first; none if Deno does not show
 * them.
 */
export function denoResources(): Resource[] {
  const { internal } = Deno as unknown as { internal?: symbol };
  const inside = Deno as unknown as Record<symbol, { core?: Core } | undefined>;
  const table = internal === undefined ? undefined : inside[internal]?.core?.resources?.();
  return Object.entries(table ?? {}).flatMap(([number, name]) => {
    const kind = KINDS.get(name.slice(name.lastIndexOf(":") + 1));
    return kind === undefined ? [] : [{ number: Number(number), kind }];
  });
}
