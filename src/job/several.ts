// SPDX-License-Identifier: MIT
/**
 * Work of many pieces, some of which are done at the same time.
 *
 * @module
 */

/** A piece of work, which ends when the signal is aborted. */
export type PieceOfWork = (signal: AbortSignal) => Promise<void>;

/**
 * Does pieces of work in their order, so many at once. An error, or the signal, ends all of them.
 *
 * @throws The first error, when every piece that was begun has ended; the reason of the signal.
 */
export async function severalAtOnce(
  most: number,
  pieces: Iterable<PieceOfWork>,
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const queue = pieces[Symbol.iterator]();
  const worker = async () => {
    try {
      for (let next = queue.next(); !next.done; next = queue.next()) {
        either.throwIfAborted();
        await next.value(either);
      }
    } catch (error) {
      stop.abort(error);
    }
  };
  await Promise.all(Array.from({ length: most }, worker));
  signal.throwIfAborted();
  stop.signal.throwIfAborted();
}
