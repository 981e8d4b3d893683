// SPDX-License-Identifier: MIT
/**
 * Checks that are evaluated in a page, as expressions.
 *
 * @module
 */

/** What reaches over the edges of the window, unless something around it cuts or scrolls it. */
export const OVERFLOWING = `(() => {
  const width = document.documentElement.clientWidth;
  const isCut = (element) => {
    for (let at = element.parentElement; at !== document.body; at = at.parentElement) {
      if (at === null) return false;
      if (getComputedStyle(at).overflowX !== "visible") return true;
    }
    return false;
  };
  const found = [...document.body.querySelectorAll("*")].filter((element) => {
    if (element.matches(".skip, .unseen") || !element.checkVisibility()) return false;
    const { left, right } = element.getBoundingClientRect();
    return (left < -0.5 || right > width + 0.5) && !isCut(element);
  });
  const names = found.slice(0, 5).map(({ outerHTML }) => outerHTML.slice(0, 120));
  return document.documentElement.scrollWidth > width ? ["the page", ...names] : names;
})()`;

/** Texts whose contrast is less than 4.5 to 1 (WCAG 2.2, 1.4.3, AA). */
export const TOO_FAINT = `(() => {
  const colour = (text) => {
    const canvas = colour.canvas ??= document.createElement("canvas").getContext("2d", {
      willReadFrequently: true,
    });
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const known = new Map();
  const cached = (text) => {
    if (!known.has(text)) known.set(text, colour(text));
    return known.get(text);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const fieldOf = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const field = cached(getComputedStyle(at).backgroundColor);
      if (field[3] === 255) return field;
    }
    return [255, 255, 255, 255];
  };
  const faint = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (texts.currentNode.data.trim() === "" || element.matches("script, style")) continue;
    if (!element.checkVisibility()) continue;
    count++;
    const [a, b] = [cached(getComputedStyle(element).color), fieldOf(element)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) {
      faint.add(element.tagName + "." + element.className + " " + ratio.toFixed(2));
    }
  }
  return { count, faint: [...faint] };
})()`;

/** Opens everything that can be opened. */
export const OPEN_ALL =
  `document.querySelectorAll("details").forEach((details) => details.open = true)`;

/** Headings that are more than one level below the one before. */
export const SKIPPED_HEADINGS =
  `[...document.querySelectorAll("h1,h2,h3,h4,h5,h6")].filter((heading, index, all) =>
  Number(heading.tagName[1]) > Number(all[index - 1]?.tagName[1] ?? 0) + 1
).map(({ outerHTML }) => outerHTML)`;
