// SPDX-License-Identifier: MIT
/** Version of seedstrap, from package.json. */

import pkg from "../package.json" with { type: "json" };

export const VERSION: string = pkg.version;
/** How seedstrap names itself to servers. */
export const USER_AGENT = `seedstrap/${VERSION}`;
