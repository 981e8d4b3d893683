// SPDX-License-Identifier: MIT
/** `seedstrap serve`: a mirror for a lab, or for a machine on the desk. */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { closeSync, openSync, writeSync } from "node:fs";
import process from "node:process";
import { UserError } from "../errors.ts";
import type { Served } from "../fetch/http_server.ts";
import { type ServedKind, serveMirror } from "../job/serve.ts";
import { withInterrupt } from "../launch/interrupt.ts";
import { parseCount } from "../plan/options.ts";
import { writing } from "../refused.ts";
import { beginJsonLines, printJson, printJsonLine } from "./json.ts";
import { chosenStore, olderStoreOption, storeOption } from "./options.ts";
import { printable } from "../text.ts";
import { counted, note, warn } from "./output.ts";
import { withProgress } from "./progress.ts";

/** Of no other service that is common. */
const PORT = 8360;

export function serveSubcommand(): CommandUnknownOpts {
  return new Command("serve")
    .summary("serve a mirror over HTTP")
    .description("serve a directory, the store, or the distfiles of a checkout, over HTTP")
    .argument("[place]", "directory, store or checkout (default: the store)")
    .allowExcessArguments(false)
    .option("--listen <address>", "ADDRESS:PORT, ADDRESS or :PORT", `127.0.0.1:${PORT}`)
    .addOption(storeOption())
    .addOption(olderStoreOption())
    .option("--log <file>", "where a line for each request goes, at its end (default: here)")
    .option("--json", "for scripts: a line when it listens, and one for each request")
    .addHelpText(
      "after",
      `
Examples:
  seedstrap serve /srv/mirror --listen 0.0.0.0:8000
  seedstrap serve live-bootstrap       # for: seedstrap build -m http://HOST:${PORT}

It listens on this machine only, unless --listen says more: [::]:8000 is every address. Nothing outside
of the directory is served, by whatever spelling or link, and no name that begins with a dot. The
distfiles of a checkout are verified when it starts. Ctrl-C and SIGTERM end it with 0; answers that have
begun get ten seconds.`,
    )
    .action((place, raw) => {
      const { host, port } = parseAddress(raw.listen);
      const { json = false } = raw;
      if (json) beginJsonLines();
      const log = raw.log === undefined ? undefined : openLog(raw.log);
      const store = chosenStore(raw);
      let answers = 0;
      return withInterrupt(async (signal) => {
        const onServed = (served: Served) => {
          answers++;
          if (json) printJsonLine({ time: new Date().toISOString(), kind: "request", ...served });
          if (log !== undefined) log.write(logLine(served));
          else if (!json) process.stderr.write(logLine(served));
        };
        await withProgress((progress) =>
          serveMirror({ place: place ?? store, store, host, port }, {
            onNotice: warn,
            progress,
            onServed,
            onStart: ({ url }, what, files) => {
              progress.end();
              if (json) {
                const time = new Date().toISOString();
                printJsonLine({ time, kind: "start", url, what, files: files ?? null });
              }
              note(startLine(url, what, files));
              if (host === "0.0.0.0" || host === "::") {
                warn("whoever reaches this machine can read it");
              }
            },
          }, signal)
        );
        if (json) printJson({ requests: answers });
        else note(`ended, after ${counted(answers, "request")}`);
      }).finally(() => log?.close());
    });
}

function startLine(url: string, what: ServedKind, files: number | undefined): string {
  const of = {
    directory: "a directory",
    store: "the store",
    checkout: "the distfiles of a checkout",
  }[what];
  const count = files === undefined ? "" : `, ${counted(files, "file")}`;
  return `serving ${of}${count} on ${url}; Ctrl-C ends it`;
}

function logLine({ from, method, target, status, sentBytes, ms }: Served): string {
  const time = new Date().toISOString();
  const request = printable(`${method} ${target}`);
  return `${time} ${from} "${request}" ${status} ${sentBytes} ${Math.round(ms)} ms\n`;
}

function openLog(path: string): { write(line: string): void; close(): void } {
  const file = writing(path, () => openSync(path, "a", 0o644), "--log");
  return {
    write: (line) => void writing(path, () => writeSync(file, line), "--log"),
    close: () => closeSync(file),
  };
}

/**
 * Parses an address and a port.
 *
 * @throws {UserError} "usage"
 */
function parseAddress(text: string): { readonly host: string; readonly port: number } {
  const [, six, four, digits] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/[\]]*))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = six ?? (four === "" ? "127.0.0.1" : four);
  if (host === undefined) {
    throw new UserError("usage", `Cannot use ${JSON.stringify(text)} for --listen`, {
      hint: "It takes 127.0.0.1:8000, 0.0.0.0, [::1]:8000 or :8000",
    });
  }
  return { host, port: digits === undefined ? PORT : parseCount(digits, "--listen", 0, 65535) };
}
