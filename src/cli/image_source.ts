// SPDX-License-Identifier: MIT
/** Opening images for commands, and the records that belong to them. */

import { Option } from "@commander-js/extra-typings";
import type { FileSource } from "../source/file.ts";
import { openSource } from "../source/open.ts";
import { type ImageView, VIEW_KINDS, type ViewKind } from "../image/types.ts";
import { openView } from "../image/view.ts";
import { RECORD_NAME } from "../record/types.ts";
import { note, paint, printable } from "./output.ts";

/** `--as`, for every command that opens an image. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function asOption() {
  return new Option("--as <kind>", "what to take the image for").choices(VIEW_KINDS);
}

/** `--record`, for commands that compare with what was built. */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the type is the declaration
export function recordOption() {
  return new Option("--record <file>", `the ${RECORD_NAME} of the build (default: beside it)`);
}

/** Opens an image for a command, and says what its reader has to know. */
export async function withView(
  path: string,
  kind: ViewKind | undefined,
  use: (view: ImageView, source: FileSource) => void | Promise<void>,
): Promise<void> {
  const source = openSource(path);
  try {
    const view = kind === undefined ? openView(source) : openView(source, kind);
    for (const warning of view.warnings) {
      note(`${paint("yellow", "warning:")} ${printable(path)}: ${warning}`);
    }
    await use(view, source);
  } finally {
    source.close();
  }
}
