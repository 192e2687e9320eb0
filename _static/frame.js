// The frame of a page: colours, menus, the two sidebars. Without it, links and text all work.
"use strict";

const root = document.documentElement;
const find = (selector) => document.querySelector(selector);

// ---- Light, dark, or as the reader's system is

const system = matchMedia("(prefers-color-scheme: dark)");

function colour(mode) {
  root.dataset.mode = mode;
  root.dataset.theme = mode === "auto" ? (system.matches ? "dark" : "light") : mode;
  const name = { auto: "as your system is", light: "light", dark: "dark" }[mode];
  for (const button of document.querySelectorAll(".theme-switch-button"))
    button.setAttribute("aria-label", `Colours: ${name}`);
}

function nextColour() {
  // The first step away from "auto" is always one that is seen.
  const modes = system.matches ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
  const mode = modes[(modes.indexOf(root.dataset.mode) + 1) % modes.length];
  try {
    localStorage.setItem("mode", mode);
  } catch {
    // A browser that keeps nothing still changes this page.
  }
  colour(mode);
}

colour(root.dataset.mode ?? "auto");
system.addEventListener("change", () => colour(root.dataset.mode));
for (const button of document.querySelectorAll(".theme-switch-button"))
  button.addEventListener("click", nextColour);

// ---- Menus in the head: one open at a time, closed by Escape or a click elsewhere

const menus = [...document.querySelectorAll("details.nn-menu")];
const close = (except) => menus.forEach((menu) => (menu.open = menu === except && menu.open));

document.addEventListener("click", (event) => close(event.target.closest?.("details.nn-menu")));
document.addEventListener("keydown", (event) => {
  const open = menus.find((menu) => menu.open);
  if (event.key !== "Escape" || !open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// ---- The sidebars: a column where there is room, else a drawer over the page

function drawer(name, wide) {
  const button = find(`.${name}-toggle`);
  const sidebar = find(`#pst-${name}-sidebar`);
  const dialog = find(`#pst-${name}-sidebar-modal`);
  if (!button || !sidebar || !dialog) return;
  const back = () => sidebar.append(...dialog.childNodes);
  const roomy = matchMedia(`(min-width: ${wide}px)`);
  const told = () => button.setAttribute("aria-expanded", String(
    roomy.matches ? !root.classList.contains("nn-no-sidebar") : dialog.open));
  button.addEventListener("click", () => {
    if (roomy.matches) {
      root.classList.toggle("nn-no-sidebar");
    } else {
      dialog.append(...sidebar.childNodes);
      dialog.showModal();
      show(dialog);
    }
    told();
  });
  dialog.addEventListener("close", () => {
    back();
    told();
  });
  // A click on what is not the drawer, or on a link within the page, closes it.
  dialog.addEventListener("click", (event) => {
    const { right, left } = dialog.getBoundingClientRect();
    const outside = event.clientX && (event.clientX < left || event.clientX > right);
    if (outside || event.target.closest("a, .search-button__button")) dialog.close();
  });
  roomy.addEventListener("change", () => {
    dialog.close();
    told();
  });
  told();
}

/** Bring the current entry of a scrolling column into sight, and move nothing else. */
function show(column) {
  const current = column.querySelector("[aria-current]");
  if (!current) return;
  const [box, entry] = [column, current].map((element) => element.getBoundingClientRect());
  if (entry.top < box.top + 40 || entry.bottom > box.bottom - 40)
    column.scrollTop += entry.top - box.top - box.height / 2;
}

drawer("primary", 992);
drawer("secondary", 1200);

// ---- The contents of this page follow the reader

function follow() {
  const contents = find("#pst-page-toc-nav");
  if (!contents) return;
  const links = new Map();
  for (const link of contents.querySelectorAll("a[href^='#']")) {
    const target = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (target) links.set(target.closest("section") ?? target, link);
  }
  const seen = new Set();
  const order = [...links.keys()];
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries)
      seen[isIntersecting ? "add" : "delete"](target);
    const current = links.get(order.findLast((section) => seen.has(section)));
    for (const link of links.values()) mark(link, link === current);
    for (const entry of contents.querySelectorAll("li"))
      entry.classList.toggle("active", Boolean(entry.querySelector("[aria-current]")));
    if (current) show(contents.parentElement);
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of order) watch.observe(section);
}

function mark(link, on) {
  if (on) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

follow();

// ---- In the tree of pages, the arrows open and close what stands below a link, and the link is the
// ---- only stop: the small arrow beside it is for the pointer

for (const link of document.querySelectorAll(".bd-docs-nav .has-children > a")) {
  link.setAttribute("aria-keyshortcuts", "ArrowRight ArrowLeft");
  link.addEventListener("keydown", (event) => {
    if (!["ArrowRight", "ArrowLeft"].includes(event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
    link.parentElement.querySelector("details").open = event.key === "ArrowRight";
    event.preventDefault(); // no page is turned
  });
}

// Up and down lead from link to link, so that all families are a single stop, the page's own or the
// first, and a family's chapters are another: the page's own.

const pages = document.querySelector(".bd-docs-nav");
const families = [...(pages?.querySelectorAll(".has-children > a") ?? [])];
const own = families.find((link) => link.parentElement.matches(".current")) ?? families[0];
for (const link of families) if (link !== own) link.tabIndex = -1;
for (const link of pages?.querySelectorAll(".has-children li:not(.current) > a") ?? []) link.tabIndex = -1;
pages?.addEventListener("keydown", (event) => {
  const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!way || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const links = [...pages.querySelectorAll("a")].filter((link) => link.offsetParent);
  links[links.indexOf(event.target) + way]?.focus();
  event.preventDefault(); // nothing scrolls but what is needed
});

// ---- Code and tables that scroll sideways can be reached by the keyboard; the others are no stop

const scrollers = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const scrolls = target.scrollWidth > target.clientWidth + 1;
    if (scrolls) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
const SCROLLING = ":is(pre, .pst-scrollable-table-container, .cell_output .output)";
for (const box of document.querySelectorAll(`.bd-article ${SCROLLING}`)) scrollers.observe(box);
