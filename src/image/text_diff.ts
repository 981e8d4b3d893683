// SPDX-License-Identifier: MIT
/**
 * A unified diff of two small texts, after E. Myers, "An O(ND) difference algorithm".
 *
 * @module
 */

/** Texts of more lines, or with more changes, take too much memory or time. */
const MAX_LINES = 20_000;
const MAX_EDITS = 1000;
/** Lines shown around a change. */
const CONTEXT = 3;

/** A line of both texts, of the first or of the second, with its index in each. */
interface Edit {
  readonly kind: " " | "-" | "+";
  readonly text: string;
  readonly a: number;
  readonly b: number;
}

/**
 * The hunks of a unified diff, with their `@@` lines and without the two lines of file names.
 *
 * @returns No lines for equal texts; undefined where they are too long or too different.
 */
export function diffText(a: string, b: string): string[] | undefined {
  const [left, right] = [linesOf(a), linesOf(b)];
  if (Math.max(left.length, right.length) > MAX_LINES) return undefined;
  const edits = editsOf(left, right);
  return edits && [...hunks(edits)];
}

/** Lines; one without a newline at the end of the text says so, as diff has it. */
function linesOf(text: string): string[] {
  const lines = text.split("\n");
  const last = lines.pop()!;
  return last === "" ? lines : [...lines, `${last}\n\\ No newline at end of file`];
}

function editsOf(a: readonly string[], b: readonly string[]): Edit[] | undefined {
  // reached[k]: how far in `a` a path on diagonal k comes; one row is kept for each edit.
  const rows: Map<number, number>[] = [];
  let reached = new Map([[1, 0]]);
  for (let edit = 0; edit <= Math.min(MAX_EDITS, a.length + b.length); edit++) {
    rows.push(reached);
    const row = new Map<number, number>();
    for (let k = -edit; k <= edit; k += 2) {
      let x = isDown(reached, k, edit) ? reached.get(k + 1)! : reached.get(k - 1)! + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      row.set(k, x);
      if (x >= a.length && x - k >= b.length) return backtrack(a, b, rows);
    }
    reached = row;
  }
  return undefined;
}

/** Whether the way to diagonal k adds a line rather than taking one away. */
function isDown(reached: ReadonlyMap<number, number>, k: number, edit: number): boolean {
  if (k === -edit) return true;
  return k !== edit && reached.get(k - 1)! < reached.get(k + 1)!;
}

function backtrack(
  a: readonly string[],
  b: readonly string[],
  rows: readonly ReadonlyMap<number, number>[],
): Edit[] {
  const edits: Edit[] = [];
  let [x, y] = [a.length, b.length];
  const keep = () => {
    x--;
    y--;
    edits.push({ kind: " ", text: a[x]!, a: x, b: y });
  };
  for (let edit = rows.length - 1; edit > 0; edit--) {
    const reached = rows[edit]!;
    const k = x - y;
    const down = isDown(reached, k, edit);
    const before = reached.get(down ? k + 1 : k - 1)!;
    const start = down ? before : before + 1;
    while (x > start) keep();
    if (down) {
      y--;
      edits.push({ kind: "+", text: b[y]!, a: x, b: y });
    } else {
      x--;
      edits.push({ kind: "-", text: a[x]!, a: x, b: y });
    }
  }
  while (x > 0) keep();
  return edits.reverse();
}

function* hunks(edits: readonly Edit[]): Generator<string, void, undefined> {
  const changed = edits.flatMap((edit, index) => edit.kind === " " ? [] : [index]);
  for (let first = 0; first < changed.length;) {
    let last = first;
    while (last + 1 < changed.length && changed[last + 1]! - changed[last]! <= 2 * CONTEXT + 1) {
      last++;
    }
    const from = Math.max(0, changed[first]! - CONTEXT);
    const part = edits.slice(from, changed[last]! + CONTEXT + 1);
    const { a, b } = part[0]!;
    const removed = part.filter(({ kind }) => kind !== "+").length;
    const added = part.filter(({ kind }) => kind !== "-").length;
    yield `@@ -${range(a, removed)} +${range(b, added)} @@`;
    for (const { kind, text } of part) yield* `${kind}${text}`.split("\n");
    first = last + 1;
  }
}

/** First line and number of lines; a hunk without lines stands behind the line before it. */
function range(start: number, count: number): string {
  return `${count === 0 ? start : start + 1}${count === 1 ? "" : `,${count}`}`;
}
