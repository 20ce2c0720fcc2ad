/** A client of the stage: a connection of this process. */
import type { Client, ClientOptions, ClientState, ClientView } from "../lesson.ts";
import { StageError } from "./stage_error.ts";

const HUNG = 300; // milliseconds of silence after an answer
const SECONDS = 20;

/** What is sent unless a lesson says something else. */
export const REQUEST = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

/** Connects at once, and reads until the server closes the connection. */
export class StageClient implements Client {
  readonly number: number;
  localPort = 0;
  readonly #port: number;
  readonly #options: ClientOptions;
  readonly #patience: number;
  #begin = performance.now();
  #end: number | undefined;
  #connection: Deno.TcpConn | undefined;
  #connecting = new AbortController();
  #state: Exclude<ClientState, "hung"> = "connecting";
  #reply = "";
  #sent = 0;
  #received = 0;
  #heard = 0;
  #waiting: (() => void)[] = [];

  constructor(
    number: number,
    port: number,
    options: ClientOptions,
    patience = Infinity,
    before?: StageClient,
  ) {
    this.#patience = patience;
    this.number = number;
    this.#port = port;
    this.#options = options;
    this.#run(before);
  }

  /** @param before The client for whose answer this one waits. */
  async #run(before?: StageClient): Promise<void> {
    const { request = REQUEST, readReply = true, patience } = this.#options;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      await before?.answered(24 * 3600);
      this.#begin = performance.now();
      if (patience !== undefined) timer = setTimeout(() => this.#connecting.abort(), patience);
      const { signal } = this.#connecting;
      const connection = await Deno.connect({ hostname: "127.0.0.1", port: this.#port, signal });
      this.#connection = connection; // until it is closed, also while the request is written
      this.localPort = connection.localAddr.port;
      this.#become("waiting");
      clearTimeout(timer);
      if (request !== null) await this.#write(request);
      if (readReply) await this.#read(connection);
    } catch (error) {
      if (this.#state === "connecting") {
        const isRefused = error instanceof Deno.errors.ConnectionRefused;
        this.#become(isRefused ? "refused" : "gave-up");
      } else if (this.#state !== "closed") this.#become("reset");
      if (error instanceof TypeError) throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #read(connection: Deno.TcpConn): Promise<void> {
    const buffer = new Uint8Array(16 * 1024);
    const decoder = new TextDecoder();
    for (let count; (count = await connection.read(buffer)) !== null;) {
      this.#received += count;
      this.#reply += decoder.decode(buffer.subarray(0, count), { stream: true });
      this.#heard = performance.now();
      this.#become("answered");
    }
    this.close();
  }

  async #write(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text);
    const size = this.#options.slowly === undefined ? bytes.length : 1;
    for (let at = 0; at < bytes.length && this.#connection !== undefined;) {
      const count = await this.#connection.write(bytes.subarray(at, at + size));
      this.#sent += count;
      at += count;
      if (at < bytes.length && this.#options.slowly !== undefined) {
        await new Promise((resolve) => setTimeout(resolve, this.#options.slowly));
      }
    }
  }

  #become(state: Exclude<ClientState, "hung">): void {
    if (isEnd(this.#state)) return;
    this.#state = state;
    if (isEnd(state)) this.#end = performance.now();
    for (const wake of this.#waiting.splice(0)) wake();
  }

  state(): ClientState {
    const isHung = this.#state === "answered" && performance.now() - this.#heard > HUNG;
    return isHung ? "hung" : this.#state;
  }

  reply(): string {
    return this.#reply;
  }

  seconds(): number {
    return ((this.#end ?? performance.now()) - this.#begin) / 1000;
  }

  async send(text: string): Promise<void> {
    try {
      await this.#write(text);
    } catch {
      this.#become("reset");
    }
  }

  connected(seconds = SECONDS): Promise<ClientState> {
    return this.#until((state) => state !== "connecting", "to be connected", seconds);
  }

  answered(seconds = SECONDS): Promise<ClientState> {
    return this.#until((state) => state === "answered" || isEnd(state), "an answer", seconds);
  }

  ended(seconds = SECONDS): Promise<ClientState> {
    return this.#until(isEnd, "the connection's end", seconds);
  }

  /** Waits for a state. */
  async #until(
    isWanted: (state: ClientState) => boolean,
    what: string,
    wanted: number,
  ): Promise<ClientState> {
    const seconds = Math.min(wanted, this.#patience);
    const end = performance.now() + seconds * 1000;
    while (!isWanted(this.#state)) {
      const left = end - performance.now();
      if (left <= 0) {
        throw new StageError(`client ${this.number}`, this.state(), `${what} in ${seconds} s`);
      }
      let timer: ReturnType<typeof setTimeout> | undefined;
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
    return this.state();
  }

  close(): void {
    this.#connecting.abort();
    if (this.#connection !== undefined) this.#become("closed");
    try {
      this.#connection?.close();
    } catch {
      // closed before
    }
    this.#connection = undefined;
  }

  /** For a snapshot. */
  view(): ClientView {
    return {
      number: this.number,
      state: this.state(),
      local: this.localPort === 0 ? "" : `127.0.0.1:${this.localPort}`,
      remote: `127.0.0.1:${this.#port}`,
      sent: this.#sent,
      received: this.#received,
      seconds: Math.round(this.seconds() * 1000) / 1000,
    };
  }
}

function isEnd(state: ClientState): boolean {
  return state === "closed" || state === "refused" || state === "reset" || state === "gave-up";
}
