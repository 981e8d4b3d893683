// SPDX-License-Identifier: MIT
// What the report does with a script: the arrow keys on the map, what an area is, finding rows, the
// section in the line at the top. Without it the links do.
"use strict";
{
  const map = document.querySelector(".map");
  const about = document.querySelector(".about");
  const whole = about.textContent;
  /** What was chosen last in each view, to go back to. */
  const chosen = new Map();

  const views = [...map.querySelectorAll(".view")];
  const current = () => views.find((view) => view.matches(":target")) ?? views[0];
  const areasOf = (view) => [...view.querySelectorAll(".area, .frame > .name")];

  // One area of a view can be reached by Tab; the arrow keys go on from it.
  const reach = (area) => {
    for (const other of areasOf(area.closest(".view"))) other.tabIndex = other === area ? 0 : -1;
  };
  for (const view of views) {
    const areas = areasOf(view);
    if (areas.length > 0) reach(areas[0]);
  }

  const tell = (event) => {
    const area = event.target.closest?.(".area, .frame > .name");
    about.textContent = area ? area.title : whole;
  };
  map.addEventListener("pointerover", tell);
  map.addEventListener("focusin", (event) => {
    tell(event);
    const area = event.target.closest(".area, .frame > .name");
    if (area) reach(area);
  });

  // The page stays where it is when a view opens, and the focus goes into it.
  const open = (hash) => {
    const { scrollX, scrollY } = globalThis;
    location.hash = hash;
    globalThis.scrollTo(scrollX, scrollY);
  };
  map.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const hash = link?.getAttribute("href");
    if (!hash || !views.some(({ id }) => `#${id}` === hash)) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    chosen.set(current(), link);
    open(hash);
    const view = current();
    const back = chosen.get(view);
    const to = back && back.offsetParent ? back : areasOf(view)[0];
    to?.focus({ preventScroll: true });
  });

  /** The area that is next in a direction: near, and rather straight ahead than aside. */
  const nearest = (from, areas, [dx, dy]) => {
    const a = from.getBoundingClientRect();
    let best;
    let least = Infinity;
    for (const area of areas) {
      if (area === from) continue;
      const b = area.getBoundingClientRect();
      const ahead = dx > 0
        ? b.left - a.right
        : dx < 0
        ? a.left - b.right
        : dy > 0
        ? b.top - a.bottom
        : a.top - b.bottom;
      if (ahead < -2) continue;
      const aside = dx === 0
        ? Math.max(0, b.left - a.right, a.left - b.right)
        : Math.max(0, b.top - a.bottom, a.top - b.bottom);
      const off = dx === 0 ? Math.abs(b.left - a.left) : Math.abs(b.top - a.top);
      const far = ahead + 4 * aside + off / 100;
      if (far < least) [best, least] = [area, far];
    }
    return best;
  };

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  map.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const view = current();
    if (event.key === "Escape" || event.key === "Backspace") {
      const up = view.querySelector(".up");
      if (up) {
        event.preventDefault();
        up.click();
      }
      return;
    }
    const from = event.target.closest(".area, .frame > .name");
    if (!from) return;
    const areas = areasOf(view);
    const to = event.key === "Home"
      ? areas[0]
      : event.key === "End"
      ? areas.at(-1)
      : ARROWS[event.key] && nearest(from, areas, ARROWS[event.key]);
    if (!to) return;
    event.preventDefault();
    to.focus();
  });

  for (const finder of document.querySelectorAll(".finder")) {
    finder.hidden = false;
    const input = finder.querySelector("input");
    const output = finder.querySelector("output");
    const table = document.getElementById(input.dataset.table);
    const texts = new Map();
    const textOf = (row) => {
      if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
      return texts.get(row);
    };
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let found = 0;
      for (const body of table.tBodies) {
        const head = [...body.rows].find((row) => row.matches(".group"));
        const isGroup = head !== undefined && textOf(head).includes(wanted);
        let some = false;
        for (const row of body.rows) {
          if (row === head) continue;
          row.hidden = !isGroup && !textOf(row).includes(wanted);
          if (!row.hidden) {
            some = true;
            found++;
          }
        }
        if (head !== undefined) head.hidden = !some;
      }
      output.textContent = wanted === "" ? "" : `${found} found`;
    });
  }

  const links = new Map(
    [...document.querySelectorAll("nav.top a")].map((link) => [link.getAttribute("href"), link]),
  );
  const mark = () => {
    const passed = [...document.querySelectorAll("main > section")].filter((section) =>
      section.getBoundingClientRect().top < 120
    );
    const at = passed.at(-1)?.id ?? "";
    for (const [hash, link] of links) {
      const isCurrent = hash === `#${at}`;
      if (isCurrent === link.hasAttribute("aria-current")) continue;
      if (isCurrent) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      // On a narrow screen the line is longer than the screen.
      const list = link.closest("ul");
      if (isCurrent) list.scrollLeft = link.offsetLeft - list.clientWidth / 3;
    }
  };
  let isWaiting = false;
  document.addEventListener("scroll", () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      mark();
    });
  }, { passive: true });
  mark();

  // A section that is closed is opened for what leads into it.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (let at = target || null; at; at = at.parentElement) {
      if (at instanceof HTMLDetailsElement) at.open = true;
      else if (at === target && at.matches("section")) at.querySelector("details").open = true;
    }
    if (target && target.matches("tr, details")) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Paper has no sections to open.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("section > details")) details.open = true;
  });
}
