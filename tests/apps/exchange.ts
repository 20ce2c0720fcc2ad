/** What is said to an app and what it answers, byte by byte. */
import { within } from "../support.ts";
import type { App, Asked } from "./list.ts";

/** Where an app answers. */
export interface Target {
  readonly port: number;
  /** The certificate, if it is asked over TLS. */
  readonly certificate?: string;
}

/** How long an answer may take, in milliseconds. */
const PATIENCE = 15_000;

/** The headers that say when, and what becomes of the connection. */
const OWN = ["date", "connection", "keep-alive"];

const encoder = new TextEncoder();
const decoder = new TextDecoder("latin1"); // a character per byte

/** Connects to an app. */
export async function connect({ port, certificate }: Target): Promise<Deno.Conn> {
  if (certificate === undefined) return await Deno.connect({ hostname: "127.0.0.1", port });
  return await Deno.connectTls({ hostname: "localhost", port, caCerts: [certificate] });
}

/** The head and the body of a request that asks for the end of the connection. */
export function bytesOf({ line, body }: Asked, port: number): [head: Uint8Array, body: Uint8Array] {
  const content = encoder.encode(body?.[1] ?? "");
  const headers = [`Host: localhost:${port}`, "Connection: close"];
  if (body !== undefined) {
    headers.push(`Content-Type: ${body[0]}`, `Content-Length: ${content.length}`);
  }
  return [encoder.encode([`${line} HTTP/1.1`, ...headers, "", ""].join("\r\n")), content];
}

/** Sends a request over a connection of its own, and returns the answer without what varies. */
export async function ask(app: App, target: Target, asked: Asked): Promise<string> {
  const connection = await connect(target);
  try {
    for (const part of bytesOf(asked, target.port)) await write(connection, part);
    return normalize(await answer(connection, asked.line), app);
  } finally {
    connection.close();
  }
}

/** Sends bytes, all of them. */
export async function write(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

/** Reads to the end of a connection. What was read before an error is in its message. */
export async function answer(connection: Deno.Conn, line: string): Promise<string> {
  const buffer = new Uint8Array(65536);
  let text = "";
  const read = async () => {
    for (let count; (count = await connection.read(buffer)) !== null;) {
      text += decoder.decode(buffer.subarray(0, count));
    }
  };
  try {
    await within(read(), PATIENCE, `the answer to ${line}`);
  } catch (error) {
    throw new Error(`${(error as Error).message}, after ${text.length} bytes`);
  }
  if (text === "") throw new Error(`No answer to ${line}`);
  return text;
}

/** An answer without the headers that vary, and with its body in one piece. */
export function normalize(text: string, { volatile = [] }: Pick<App, "volatile">): string {
  const end = text.indexOf("\r\n\r\n");
  if (end === -1) throw new Error(`The answer has no head: ${JSON.stringify(text.slice(0, 200))}`);
  const [status, ...headers] = text.slice(0, end).split("\r\n");
  const body = text.slice(end + 4);
  const nameOf = (header: string) => header.slice(0, header.indexOf(":")).toLowerCase();
  const kept = headers.filter((header) => ![...OWN, ...volatile].includes(nameOf(header)));
  const length = headers.find((header) => nameOf(header) === "content-length")?.split(":")[1];
  if (length !== undefined && body.length !== Number(length)) {
    throw new Error(`The answer has ${body.length} bytes of${length}`);
  }
  const isChunked = headers.some((header) => /^transfer-encoding: *chunked$/i.test(header));
  return [status, ...kept, "", isChunked ? joinChunks(body) : body].join("\r\n");
}

/** Chunks come as they are written: where one ends says nothing. */
function joinChunks(text: string): string {
  let [body, at] = ["", 0];
  for (;;) {
    const end = text.indexOf("\r\n", at);
    const size = Number.parseInt(text.slice(at, end), 16);
    if (end === -1 || !(size >= 0)) throw new Error("The answer ends within its chunks");
    if (size === 0) return body;
    body += text.slice(end + 2, end + 2 + size);
    at = end + 2 + size + 2;
  }
}

/** Says two things over a WebSocket, and returns all that was heard. */
export async function converse({ port }: Target): Promise<string> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
  const heard: string[] = [];
  const ended = new Promise<void>((resolve, reject) => {
    socket.onopen = () => socket.send("hello");
    socket.onerror = (event) => reject(new Error((event as ErrorEvent).message));
    socket.onclose = ({ code }) => {
      heard.push(`closed: ${code}`);
      resolve();
    };
    socket.onmessage = ({ data }) => {
      heard.push(String(data));
      if (data === "hello") socket.send("again");
      if (data === "again") socket.close(1000);
    };
  });
  try {
    await within(ended, PATIENCE, "the end of a WebSocket");
  } finally {
    socket.close();
  }
  return heard.join("\n");
}

/** Clients that ask the same again and again, each time over a new connection. */
export class Crowd {
  /** How often the answer was right. */
  ok = 0;
  /** What went wrong: when, in milliseconds of `performance.now()`, and why. */
  readonly failures: { at: number; why: string }[] = [];
  #going = true;
  readonly #clients: Promise<void>[];

  constructor(app: App, target: Target, asked: Asked, expected: string) {
    const client = async () => {
      while (this.#going) {
        try {
          const got = await ask(app, target, asked);
          if (foldNames(got) !== foldNames(expected)) {
            throw new Error(`${asked.line}: ${difference(expected, got)}`);
          }
          this.ok++;
        } catch (error) {
          this.failures.push({ at: performance.now(), why: (error as Error).message });
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    this.#clients = Array.from({ length: 4 }, client);
  }

  /** Lets each client finish. */
  async stop(): Promise<void> {
    this.#going = false;
    await Promise.all(this.#clients);
  }
}

/**
 * An answer with the names of its headers in lower case. A worker that leaves writes them as Deno
 * does after a header was added: not as they came.
 */
export function foldNames(text: string): string {
  const end = text.indexOf("\r\n\r\n");
  return text.slice(0, end).replace(/^[^:\r\n]+:/gm, (name) => name.toLowerCase()) +
    text.slice(end);
}

/** Says in one line how an answer differs from the one that was expected. */
export function difference(expected: string, got: string): string {
  const [was, is] = [expected.split("\r\n"), got.split("\r\n")];
  const at = was.findIndex((line, i) => line !== is[i]);
  const show = (line: string | undefined) => JSON.stringify(line?.slice(0, 120) ?? null);
  return `${show(is[at === -1 ? was.length : at])} and not ${show(was[at])}`;
}
