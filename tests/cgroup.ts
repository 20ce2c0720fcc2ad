/** Real cgroups for tests, where this process may create them: children of its own. */

/** A cgroup. Disposing of it removes it; its processes must have ended. */
export interface Cgroup extends Disposable {
  readonly folder: string;
  /** A shell command that moves the shell into it. */
  readonly enter: string;
}

/**
 * Returns the folder of this process's cgroup if a controller can be used in it; `undefined` if it
 * cannot.
 */
export function cgroupFolder(controller: string): string | undefined {
  for (const version of [1, 2]) {
    const path = ownPath(version === 1 ? controller : "");
    if (path === undefined) continue;
    const root = version === 1 ? `/sys/fs/cgroup/${controller}` : "/sys/fs/cgroup";
    const folder = `${root}${path}`.replace(/\/$/, "");
    try {
      if (version === 2) {
        const usable = Deno.readTextFileSync(`${folder}/cgroup.subtree_control`);
        if (!usable.split(/\s/).includes(controller)) continue;
      }
      const trial = `${folder}/tine_test_trial_${Deno.pid}`;
      Deno.mkdirSync(trial);
      Deno.removeSync(trial);
      return folder;
    } catch {
      // not mounted there, or not permitted
    }
  }
}

function ownPath(controller: string): string | undefined {
  const lines = Deno.readTextFileSync("/proc/self/cgroup").split("\n").map((line) =>
    line.split(":")
  );
  return lines.find(([, names]) => names?.split(",").includes(controller))?.[2];
}

let count = 0;

/**
 * Creates a cgroup.
 *
 * @param parent The folder of its parent.
 * @param settings What to write into its files. Those that it does not have are left out.
 */
export function makeCgroup(parent: string, settings: Readonly<Record<string, string>>): Cgroup {
  const folder = `${parent}/tine_test_${Deno.pid}_${++count}`;
  Deno.mkdirSync(folder);
  for (const [name, text] of Object.entries(settings)) {
    try {
      Deno.writeTextFileSync(`${folder}/${name}`, text, { create: false });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return {
    folder,
    enter: `echo $$ >${folder}/cgroup.procs;`,
    [Symbol.dispose]: () => removeEmpty(folder),
  };
}

/** Removes a cgroup once the kernel has noticed that its processes have ended. */
function removeEmpty(folder: string): void {
  for (const end = performance.now() + 5000;;) {
    try {
      return Deno.removeSync(folder);
    } catch (error) {
      if (performance.now() > end) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
}
