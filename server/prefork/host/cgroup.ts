/**
 * The limits of the cgroup in which this process runs: those of a container, a pod or a systemd
 * unit. The defaults follow them: with more workers than processors a server would be throttled,
 * and with more memory the kernel would kill it.
 */
import { isSyscallError } from "../../../ffi/errno.ts";
import { readTextIfThere } from "../../../ffi/proc.ts";
import { formatCount } from "../../log.ts";

/** The limits of a cgroup; `Infinity` where it has none. */
export interface CgroupLimits {
  /** The processors whose time it may use, such as 1.5. */
  readonly processors: number;
  /** The memory, in bytes. */
  readonly memory: number;
}

/** A limit in a file of cgroup v1 that means none: the largest number of whole pages. */
const NONE = 2 ** 62;
/** The least share of the memory that is a limit for a worker, in bytes: Deno itself needs some. */
const LEAST_SHARE = 64 * 2 ** 20;

/**
 * Reads the limits of this process's cgroup, version 1 or 2, and of those that it is in.
 *
 * @param root What stands before the paths of `/proc` and of the file systems: tests have their own.
 * @returns The limits: the smallest of all levels.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/cgroups.7.html cgroups(7)}
 */
export function readCgroupLimits(root = ""): CgroupLimits {
  const numbers = (path: string) => readIfThere(path).trim().split(" ").map(Number);
  const foldersOf = findFolders(root);
  const unified = foldersOf("");
  const processors = [
    ...unified.map((folder) => {
      const [quota, period] = numbers(`${folder}/cpu.max`);
      return quota! / period!;
    }),
    ...foldersOf("cpu").map((folder) =>
      numbers(`${folder}/cpu.cfs_quota_us`)[0]! / numbers(`${folder}/cpu.cfs_period_us`)[0]!
    ),
  ];
  const memory = [
    ...unified.map((folder) => numbers(`${folder}/memory.max`)[0]!),
    ...foldersOf("memory").map((folder) => numbers(`${folder}/memory.limit_in_bytes`)[0]!),
  ];
  return { processors: smallest(processors), memory: smallest(memory) };
}

/** Returns the smallest limit. "max", -1, an empty text and an unlimited number are none. */
function smallest(limits: readonly number[]): number {
  return Math.min(...limits.filter((limit) => limit > 0 && limit < NONE), Infinity);
}

/**
 * Returns the function that returns the folders of this process's cgroup: its own, and those above
 * it up to the mount point. It takes the controller of cgroup v1, or nothing for version 2.
 */
function findFolders(root: string): (controller: string) => string[] {
  const cgroups = readIfThere(`${root}/proc/self/cgroup`).split("\n")
    .map((line) => line.match(/^\d+:([^:]*):(.*)$/));
  const mounts = readIfThere(`${root}/proc/self/mountinfo`).split("\n")
    .map((line) => line.match(/^\d+ \d+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)$/));
  return (controller) => {
    const own = cgroups.find((match) => match?.[1]?.split(",").includes(controller))?.[2];
    const mount = mounts.find((match) =>
      controller === "" ? match?.[3] === "cgroup2" : match?.[4]?.split(",").includes(controller)
    );
    if (own === undefined || !mount) return [];
    const [, above = "/", point = ""] = mount;
    // In a container, the mount may show less than the whole tree.
    const prefix = above === "/" ? "" : above;
    const path = own.startsWith(`${prefix}/`) ? own.slice(prefix.length) : "";
    const names = path.split("/").filter((name) => name !== "");
    return Array.from(
      { length: names.length + 1 },
      (_, count) => [`${root}${point}`, ...names.slice(0, count)].join("/"),
    );
  };
}

/** Returns the text of a file; nothing if it does not exist, or may not be read. */
function readIfThere(path: string): string {
  try {
    return readTextIfThere(path) ?? "";
  } catch (error) {
    if (isSyscallError(error)) return "";
    throw error;
  }
}

/**
 * Returns how many processors' work this process may do at the same time, at least 1.
 *
 * @param limits The limits of its cgroup.
 */
export function countProcessors({ processors }: CgroupLimits): number {
  const known = navigator.hardwareConcurrency;
  if (processors === Infinity) return known;
  // It follows the cgroup too, and rounds down: half a processor would be left idle.
  return Math.max(1, Math.min(Math.ceil(processors), Math.max(known, allowedProcessors())));
}

/** Returns the number of processors on which this process may run; 0 if it is not known. */
function allowedProcessors(): number {
  const online = parseList(readIfThere("/sys/devices/system/cpu/online"));
  const [, text = ""] = readIfThere("/proc/self/status").match(/^Cpus_allowed_list:\s*(.*)$/m) ??
    [];
  return parseList(text).filter((one) => online.includes(one)).length;
}

/** Parses a list such as `0-3,8`. */
function parseList(text: string): number[] {
  return text.trim().split(",").filter((range) => range !== "").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/**
 * Returns how much private memory a worker may have by default: its share of the memory that the
 * cgroup leaves beside this process, the master. One more worker has a share, for a replacement.
 *
 * @param memory The limit of the cgroup, in bytes.
 * @param workers The number of workers.
 * @returns The share, in bytes; `Infinity` if there is no limit, or so little that Deno itself
 *   would exceed its share.
 */
export function memoryShare(memory: number, workers: number): number {
  if (memory === Infinity) return Infinity;
  const [, own] = readIfThere("/proc/self/status").match(/^RssAnon:\s*(\d+) kB$/m) ?? [];
  const share = Math.floor((memory - Number(own ?? 0) * 1024) / (workers + 1));
  return share < LEAST_SHARE ? Infinity : share;
}

/**
 * Describes which defaults follow the limits of the cgroup, a line for each limit.
 *
 * @param limits The limits, `Infinity` where a default does not depend on one.
 * @param workers The number of workers.
 */
export function describeLimits({ processors, memory }: CgroupLimits, workers: number): string[] {
  const share = memoryShare(memory, workers);
  const consequence = share === Infinity
    ? `too little to limit ${workers === 1 ? "the worker" : `each of ${workers} workers`}`
    : `so a worker with more than ${megabytes(share)} of its own is replaced`;
  return [
    ...processors === Infinity ? [] : [
      `The cgroup allows ${formatCount(Math.round(processors * 100) / 100, "processor")}: ${
        formatCount(workers, "worker")
      }`,
    ],
    ...memory === Infinity
      ? []
      : [`The cgroup allows ${megabytes(memory)} of memory, ${consequence}`],
  ];
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
