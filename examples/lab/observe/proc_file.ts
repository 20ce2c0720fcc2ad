/** Files of `/proc`, read into one buffer: the lab reads hundreds of them many times a second. */
const buffer = new Uint8Array(64 * 1024);
const decoder = new TextDecoder();

/** Reads the beginning of a small file; `undefined` if it is not there or must not be read. */
export function readProc(path: string): string | undefined {
  try {
    using file = Deno.openSync(path);
    return decoder.decode(buffer.subarray(0, file.readSync(buffer) ?? 0));
  } catch {
    return undefined;
  }
}

/**
 * A file of `/proc/PID` that is kept open. It stays that process's: when the pid belongs to another
 * process, reading fails.
 */
export class ProcFile implements Disposable {
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /** Opens one; `undefined` if there is no such process. */
  static open(path: string): ProcFile | undefined {
    try {
      return new ProcFile(Deno.openSync(path));
    } catch {
      return undefined;
    }
  }

  /** Its content now; `undefined` if the process is gone. */
  read(): string | undefined {
    try {
      this.#file.seekSync(0, Deno.SeekMode.Start);
      return decoder.decode(buffer.subarray(0, this.#file.readSync(buffer) ?? 0));
    } catch {
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
