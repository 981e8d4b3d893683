// SPDX-License-Identifier: MIT
/** The certificates of every command that asks servers. */

import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { setTrust } from "../fetch/trust.ts";
import { GROUPS } from "./help.ts";

/** Gives a command the options for certificates, if it takes mirrors. */
export function addTrustOptions(command: CommandUnknownOpts): void {
  const mirrors = command.options.find(({ long }) => long === "--mirrors");
  if (mirrors === undefined) return;
  const options = [
    new Option("--ca-cert <file>", "authority, or server, to trust besides the known ones, in PEM"),
    new Option("--client-cert <file>", "certificate to show to servers that ask for one, in PEM"),
    new Option("--client-key <file>", "its key, if not in the same file"),
  ];
  const group = mirrors.helpGroupHeading === undefined ? undefined : GROUPS.distfiles;
  for (const option of options) {
    command.addOption(group === undefined ? option : option.helpGroup(group));
  }
  command.hook("preAction", (_, called) => {
    const fileOf = (name: string) => {
      const value: unknown = called.getOptionValue(name);
      return typeof value === "string" ? value : undefined;
    };
    setTrust({
      caCert: fileOf("caCert"),
      clientCert: fileOf("clientCert"),
      clientKey: fileOf("clientKey"),
    });
  });
}
