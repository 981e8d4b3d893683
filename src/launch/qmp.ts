// SPDX-License-Identifier: MIT
/**
 * QMP: the protocol by which a running QEMU is controlled.
 *
 * Each message is a JSON object on a line of its own:
 *
 *   QEMU begins   {"QMP": {"version": {"qemu": {"major", "minor", "micro"}, "package"}, …}}
 *   we say        {"execute": "qmp_capabilities", "id": 0}, and then any command
 *   QEMU says     {"return": …, "id": N} or {"error": {"class", "desc"}, "id": N}
 *   at any time   {"event": NAME, "data": …, "timestamp": …}
 *
 * It goes through a pair of sockets, of which QEMU has one end as its descriptor 3: no file in a file
 * system leads to it, no path is too long for it, and nobody else can connect.
 *
 * It also tells how a guest ended, and that the disk of this host is full. Without it a reset looks
 * like a switch-off, and a full disk like silence: QEMU stops the guest, prints nothing, and waits.
 * QEMU 2.12 or later.
 *
 * Source: QEMU, docs/interop/qmp-spec.txt.
 *
 * @module
 */

import type { Duplex } from "node:stream";

/** Its name, which QEMU has in what it says of it. */
export const MONITOR_NAME = "seedstrap-monitor";

/** The arguments with which QEMU uses descriptor 3. */
export const MONITOR_ARGS: readonly string[] = [
  ...["-chardev", `socket,id=${MONITOR_NAME},fd=3`],
  ...["-mon", `chardev=${MONITOR_NAME},mode=control`],
];

/** Something that QEMU tells of a guest. */
export type MonitorEvent =
  /** The guest has reset itself, under `-no-reboot`; a triple fault does, too. */
  | "reset"
  /** The guest is stopped, as a disk image cannot grow. */
  | "host-disk-full";

/** What an event tells of a guest; undefined for all others. */
export function monitorEventOf({ name, data }: QmpEvent): MonitorEvent | undefined {
  const { reason, action, nospace } = isFields(data) ? data : {};
  if (name === "SHUTDOWN" && reason === "guest-reset") return "reset";
  if (name === "BLOCK_IO_ERROR" && action === "stop" && nospace === true) return "host-disk-full";
  return undefined;
}

/** A longer message ends the connection: no reply that is asked for is as long. */
const MAX_MESSAGE_CHARS = 1024 * 1024;
const COMMAND_MS = 10_000;
/** QEMU says who it is once it has opened its disks. */
const GREETING_MS = 60_000;

/**
 * Why a command had no result.
 *
 * - refused: QEMU reports an error
 * - silent: no reply has come in time
 * - closed: the connection is over, as a rule with QEMU itself
 * - confused: what came is no QMP; the connection is then closed
 */
export type QmpFault = "refused" | "silent" | "closed" | "confused";

/** The failure of a command. */
export class QmpError extends Error {
  readonly fault: QmpFault;

  constructor(fault: QmpFault, message: string) {
    super(message);
    this.name = "QmpError";
    this.fault = fault;
  }
}

/** Something that QEMU tells by itself. */
export interface QmpEvent {
  /** Such as STOP or BLOCK_IO_ERROR. */
  readonly name: string;
  /** Its details, not checked. */
  readonly data: unknown;
}

/** The fields of an object of JSON. */
type Fields = Readonly<Record<string, unknown>>;

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The version that a greeting names; undefined where it names none. */
function versionOf(greeting: unknown): string | undefined {
  const version = isFields(greeting) && isFields(greeting["version"]) ? greeting["version"] : {};
  const { qemu, package: packaged } = version;
  const { major, minor, micro } = isFields(qemu) ? qemu : {};
  if (![major, minor, micro].every((part) => Number.isSafeInteger(part))) return undefined;
  const by = typeof packaged === "string" && packaged !== "" ? ` (${packaged})` : "";
  return `${major}.${minor}.${micro}${by}`;
}

/** A command that has no reply yet. */
interface Waiting {
  readonly command: string;
  settle(value: unknown): void;
  fail(error: QmpError): void;
}

/** A connection to a running QEMU. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #decoder = new TextDecoder();
  #rest = "";
  #last = 0;
  #end: QmpError | undefined;
  #greeted: Waiting | undefined;
  #version = "";

  private constructor(stream: Duplex, onEvent: (event: QmpEvent) => void) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    stream.on("data", (chunk: Uint8Array) => this.#take(chunk));
    // "error" comes before "close" where QEMU was killed.
    stream.on(
      "error",
      () => this.#over(new QmpError("closed", "QEMU has closed its control socket")),
    );
    stream.on(
      "close",
      () => this.#over(new QmpError("closed", "QEMU has closed its control socket")),
    );
    stream.on(
      "end",
      () => this.#over(new QmpError("closed", "QEMU has closed its control socket")),
    );
  }

  /**
   * Waits for the greeting of QEMU, and begins to command it.
   *
   * @param stream The socket; the connection owns it.
   * @param onEvent Called for each event; must not throw.
   * @throws {QmpError}
   */
  static async open(
    stream: Duplex,
    { onEvent = () => {}, greetingMs = GREETING_MS }: {
      readonly onEvent?: (event: QmpEvent) => void;
      readonly greetingMs?: number;
    } = {},
  ): Promise<Qmp> {
    const qmp = new Qmp(stream, onEvent);
    const greeting = await qmp.#wait("its greeting", greetingMs, (waiting) => {
      qmp.#greeted = waiting;
    });
    const version = versionOf(greeting);
    if (version === undefined) throw qmp.#confused("its greeting has no version");
    qmp.#version = version;
    await qmp.execute("qmp_capabilities");
    return qmp;
  }

  /** The version of QEMU, such as `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`. */
  get version(): string {
    return this.#version;
  }

  /** Whether commands can still be given. */
  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /**
   * Gives a command, and waits for its reply.
   *
   * @param timeoutMs 10 s if absent. A reply that comes later is dropped.
   * @returns What QEMU returns, not checked.
   * @throws {QmpError}
   */
  async execute(
    command: string,
    args: Readonly<Record<string, unknown>> = {},
    timeoutMs: number = COMMAND_MS,
  ): Promise<unknown> {
    const id = this.#last++;
    try {
      return await this.#wait(command, timeoutMs, (waiting) => {
        this.#waiting.set(id, waiting);
        this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      });
    } finally {
      this.#waiting.delete(id);
    }
  }

  /**
   * Gives a command, and checks what it returns.
   *
   * @throws {QmpError} also "confused", where the reply is another.
   */
  async ask<T>(
    isReply: (value: unknown) => value is T,
    command: string,
    args: Readonly<Record<string, unknown>> = {},
  ): Promise<T> {
    const reply = await this.execute(command, args);
    if (!isReply(reply)) throw this.#confused(`the reply to ${command} is another than expected`);
    return reply;
  }

  /** Ends the connection; QEMU goes on. */
  close(): void {
    this.#over(new QmpError("closed", "the control socket of QEMU was closed"));
  }

  async #wait(
    what: string,
    timeoutMs: number,
    begin: (waiting: Waiting) => void,
  ): Promise<unknown> {
    if (this.#end !== undefined) throw this.#end;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise((settle, fail) => {
        timer = setTimeout(() => {
          fail(new QmpError("silent", `QEMU says nothing to ${what} for ${timeoutMs / 1000} s`));
        }, timeoutMs);
        begin({ command: what, settle, fail });
      });
    } finally {
      clearTimeout(timer);
    }
  }

  #take(chunk: Uint8Array): void {
    if (this.#end !== undefined) return;
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (line.trim() !== "") this.#read(line);
      if (this.#end !== undefined) return;
    }
    if (this.#rest.length > MAX_MESSAGE_CHARS) this.#confused("a message without end");
  }

  #read(line: string): void {
    const message = line.length > MAX_MESSAGE_CHARS ? undefined : parsed(line);
    if (!isFields(message)) return void this.#confused("a message is no object of JSON");
    const { QMP, event, data, id, error } = message;
    if (QMP !== undefined) this.#greeted?.settle(QMP);
    else if (typeof event === "string") this.#onEvent({ name: event, data });
    else if ("return" in message || isFields(error)) this.#reply(id, message);
    else this.#confused("a message is nothing that is known");
  }

  #reply(id: unknown, { return: value, error }: Fields): void {
    const waiting = typeof id === "number" ? this.#waiting.get(id) : undefined;
    // The reply to a command that is no longer waited for.
    if (waiting === undefined) return;
    if (!isFields(error)) return waiting.settle(value);
    const why = `QEMU refuses ${waiting.command}: ${String(error["desc"])}`;
    waiting.fail(new QmpError("refused", why));
  }

  #confused(why: string): QmpError {
    const error = new QmpError("confused", `QEMU cannot be understood: ${why}`);
    this.#over(error);
    return error;
  }

  #over(error: QmpError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    this.#rest = "";
    this.#greeted?.fail(error);
    for (const waiting of this.#waiting.values()) waiting.fail(error);
    this.#stream.destroy();
  }
}

/** The value of a text of JSON; undefined for other texts. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
