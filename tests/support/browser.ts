// SPDX-License-Identifier: MIT
/**
 * A real browser without a window, driven by the DevTools protocol.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

/** The program in Debian, or another one that is the same. */
export const BROWSER = ["chromium", "google-chrome"].find((name) => Bun.which(name) !== null) ??
  "chromium";

/** How a page is looked at. */
export interface Look {
  readonly width: number;
  readonly scheme: "light" | "dark";
  readonly media?: "screen" | "print";
}

interface AxNode {
  readonly ignored: boolean;
  readonly role?: { readonly value: string };
  readonly name?: { readonly value: string };
}

type Fields = Readonly<Record<string, unknown>>;

/** A page that is open. */
export interface Page {
  /** What the page or the browser has complained of. */
  readonly complaints: readonly string[];
  /** Every URL that the page has asked for, its own first. */
  readonly requests: readonly string[];
  /** Sets the width of the window, the colour scheme and the medium. */
  look(look: Look): Promise<void>;
  /** Evaluates an expression in the page, and returns its value as JSON has it. */
  evaluate<T>(expression: string): Promise<T>;
  /** Presses a key, by its name in the DOM. */
  press(key: string): Promise<void>;
  /** The window, or the whole page, as PNG. */
  screenshot(isWhole?: boolean): Promise<Uint8Array>;
  /** The page on paper. */
  pdf(): Promise<Uint8Array>;
  /** What a screen reader is told of: role and name of everything that has one. */
  accessible(): Promise<readonly { readonly role: string; readonly name: string }[]>;
}

/** A browser; close it. */
export class Browser {
  readonly #process: Bun.Subprocess<"ignore", "ignore", "pipe">;
  readonly #profile: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Fields) => void>();
  readonly #told = new Map<string, (method: string, params: Fields) => void>();
  #id = 0;

  private constructor(
    process: Bun.Subprocess<"ignore", "ignore", "pipe">,
    profile: string,
    socket: WebSocket,
  ) {
    this.#process = process;
    this.#profile = profile;
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#take(JSON.parse(String(data)));
  }

  /** Starts the browser; `proxy` is where all it asks a network for would go. */
  static async start(proxy: string): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), "seedstrap-browser-"));
    const process = Bun.spawn([
      BROWSER,
      "--headless=new",
      // The pages are our own, and root has no sandbox.
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
      "--no-default-browser-check",
      "--hide-scrollbars",
      `--proxy-server=${proxy}`,
      `--user-data-dir=${profile}`,
      "--remote-debugging-port=0",
      "about:blank",
    ], { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    try {
      const socket = new WebSocket(await debuggingUrl(process.stderr));
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error("the browser takes no connection"));
      });
      return new Browser(process, profile, socket);
    } catch (error) {
      process.kill();
      rmSync(profile, { recursive: true, force: true });
      throw error;
    }
  }

  #take(message: Fields): void {
    if (typeof message["id"] === "number") {
      this.#waiting.get(message["id"])?.(message);
      this.#waiting.delete(message["id"]);
      return;
    }
    const session = this.#told.get(String(message["sessionId"]));
    session?.(String(message["method"]), message["params"] as Fields);
  }

  async #send(method: string, params: Fields = {}, sessionId?: string): Promise<Fields> {
    const id = ++this.#id;
    const answer = new Promise<Fields>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    const { result, error } = await answer;
    if (error !== undefined) throw new Error(`${method}: ${JSON.stringify(error)}`);
    return result as Fields;
  }

  /** Opens a page in a tab of its own, and waits until it is loaded. */
  async open(
    url: string,
    look: Look,
    { runsScripts = true }: { readonly runsScripts?: boolean } = {},
  ): Promise<Page> {
    const { targetId } = await this.#send("Target.createTarget", { url: "about:blank" });
    const attached = await this.#send("Target.attachToTarget", { targetId, flatten: true });
    const session = String(attached["sessionId"]);
    const send = (method: string, params: Fields = {}) => this.#send(method, params, session);
    const complaints: string[] = [];
    const requests: string[] = [];
    const loaded = Promise.withResolvers<void>();
    this.#told.set(session, (method, params) => {
      switch (method) {
        case "Page.loadEventFired":
          loaded.resolve();
          break;
        case "Network.requestWillBeSent":
          requests.push((params["request"] as { url: string }).url);
          break;
        case "Runtime.consoleAPICalled":
        case "Runtime.exceptionThrown":
        case "Log.entryAdded":
        case "Audits.issueAdded":
          complaints.push(JSON.stringify(params));
      }
    });
    for (const domain of ["Page", "Network", "Runtime", "Log", "Audits"]) {
      await send(`${domain}.enable`);
    }
    const page: Page = {
      complaints,
      requests,
      async look({ width, scheme, media = "screen" }) {
        const height = 900;
        await send("Emulation.setDeviceMetricsOverride", {
          width,
          height,
          deviceScaleFactor: 1,
          mobile: false,
        });
        const features = [{ name: "prefers-color-scheme", value: scheme }];
        await send("Emulation.setEmulatedMedia", { media, features });
        await page.evaluate("new Promise((then) => requestAnimationFrame(() => setTimeout(then)))");
      },
      async evaluate<T>(expression: string): Promise<T> {
        const answer = await send("Runtime.evaluate", {
          expression,
          awaitPromise: true,
          returnByValue: true,
        });
        const { result, exceptionDetails } = answer as {
          result: { value: T };
          exceptionDetails?: { exception?: { description?: string } };
        };
        if (exceptionDetails === undefined) return result.value;
        throw new Error(exceptionDetails.exception?.description ?? "it threw");
      },
      async press(key) {
        const code = KEY_CODES[key];
        const event = { key, code: key, windowsVirtualKeyCode: code };
        const text = key === "Enter" ? { text: "\r" } : {};
        await send("Input.dispatchKeyEvent", { type: "keyDown", ...event, ...text });
        await send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
        await setTimeout(20);
      },
      async screenshot(isWhole = false) {
        const answer = await send("Page.captureScreenshot", { captureBeyondViewport: isWhole });
        return Buffer.from(String(answer["data"]), "base64");
      },
      async pdf() {
        const answer = await send("Page.printToPDF", { paperWidth: 8.27, paperHeight: 11.69 });
        return Buffer.from(String(answer["data"]), "base64");
      },
      async accessible() {
        const { nodes } = await send("Accessibility.getFullAXTree") as { nodes: AxNode[] };
        return nodes.filter(({ ignored }) => !ignored)
          .map(({ role, name }) => ({ role: role?.value ?? "", name: name?.value ?? "" }));
      },
    };
    await page.look(look);
    await send("Emulation.setScriptExecutionDisabled", { value: !runsScripts });
    await send("Page.navigate", { url });
    await loaded.promise;
    return page;
  }

  /** Ends the browser. */
  async close(): Promise<void> {
    await this.#send("Browser.close").catch(() => this.#process.kill());
    await this.#process.exited;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

const KEY_CODES: Readonly<Record<string, number>> = {
  Tab: 9,
  Enter: 13,
  Escape: 27,
  End: 35,
  Home: 36,
  ArrowLeft: 37,
  ArrowUp: 38,
  ArrowRight: 39,
  ArrowDown: 40,
};

/** Where the browser says that it can be driven; what it says after that is not read. */
async function debuggingUrl(stderr: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of stderr) {
    text += decoder.decode(chunk, { stream: true });
    const url = /^DevTools listening on (ws:\S+)/m.exec(text)?.[1];
    if (url !== undefined) return url;
  }
  throw new Error(`the browser did not start:\n${text}`);
}
