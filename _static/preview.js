// Previews: what a link within the book leads to, shown beside it on hover or keyboard focus.
// A tap follows the link as always. Pages are fetched when a preview asks for them, not before.
(() => {
  "use strict";

  const WAIT = 250, GRACE = 200, GAP = 8, EDGE = 12; // milliseconds, pixels
  const pages = new Map([[clean(location.href), Promise.resolve(document)]]);
  let box, link, title = "", timer, asked = 0;

  function clean(url) {
    return String(url).replace(/[?#].*$/, "").replace(/\/$/, "/index.html");
  }

  function page(url) {
    const key = clean(url);
    if (!pages.has(key)) {
      const told = fetch(key).then((answer) => {
        if (!answer.ok) throw new Error(`${answer.status}`);
        return answer.text();
      }).then((text) => new DOMParser().parseFromString(text, "text/html"));
      told.catch(() => pages.delete(key));
      pages.set(key, told);
    }
    return pages.get(key);
  }

  // ---- What to show of a target

  function copied(...parts) {
    const piece = document.createElement("div");
    piece.append(...parts.filter(Boolean).map((part) => part.cloneNode(true)));
    return piece;
  }

  // A page or section: its heading and the first paragraph of its own.
  function begun(section) {
    const inside = (selector) => [...section.querySelectorAll(selector)];
    const fact = (e) => e.matches(".nn-facts") || e.closest(".cell, .nn-end, aside, figure");
    return copied(section.querySelector("h1, h2, h3, h4"), inside("p").find((p) => !fact(p)));
  }

  function content(doc, id) {
    const main = doc.querySelector("article") ?? doc.body;
    if (!id) return begun(main);
    const target = doc.getElementById(id);
    if (!target || !main.contains(target)) return null;
    if (target.matches("dt")) {
      const told = target.nextElementSibling?.closest("dd");
      return copied(target, target.matches(".sig") ? told?.querySelector("p") : told);
    }
    if (target.matches("div.math, figure, .citation, table, .admonition")) return copied(target);
    const equation = target.matches("span") && target.nextElementSibling;
    if (equation && equation.matches("div.math")) return copied(equation);
    const section = target.closest("section");
    return section ? begun(section) : null;
  }

  const TOOLS = ".headerlink, button, input, script, template, .nn-controls, .backrefs, .nn-cited, " +
    ".citation > .label";

  // A picture of another page takes along the shapes that it borrows there.
  function borrow(piece, doc) {
    for (const use of piece.querySelectorAll("use")) {
      const id = (use.getAttribute("href") ?? use.getAttribute("xlink:href") ?? "").slice(1);
      const shape = id && !piece.querySelector(`#${CSS.escape(id)}`) && doc.getElementById(id);
      if (!shape) continue;
      const held = document.createElementNS("http://www.w3.org/2000/svg", "defs");
      held.append(shape.cloneNode(true));
      use.before(held);
    }
  }

  // Ids of the copy are its own, and what it names in itself follows; addresses become absolute.
  function settled(piece, doc, url) {
    piece.querySelectorAll(TOOLS).forEach((e) => e.remove());
    if (doc !== document) borrow(piece, doc);
    const ids = new Set([...piece.querySelectorAll("[id]")].map((e) => e.id));
    for (const each of [piece, ...piece.querySelectorAll("*")]) {
      if (each.id) each.id = `preview-${each.id}`;
      for (const { name, value } of [...each.attributes]) {
        if (/^(xlink:)?href$/.test(name) && value.startsWith("#") && ids.has(value.slice(1))) {
          each.setAttribute(name, `#preview-${value.slice(1)}`);
        } else if (value.includes("url(#")) {
          each.setAttribute(name, value.replace(/url\(#([^)]+)\)/g, (whole, id) =>
            ids.has(id) ? `url(#preview-${id})` : whole));
        } else if (name === "src" || (name === "href" && each.matches("a"))) {
          each.setAttribute(name, new URL(value, url));
        }
      }
      if (each.matches("a, [tabindex], summary")) each.tabIndex = -1;
    }
    return piece;
  }

  // ---- When and where to show it

  function candidate(target) {
    const found = target.closest?.("article a[href]");
    if (!found || found.matches(".headerlink, .nn-number, [download], :has(img, svg)")) return null;
    if (found.closest(".toctree-wrapper, .nn-facts, .nn-links, .nn-preview")) return null;
    const url = new URL(found.href);
    const here = url.origin === location.origin && /^https?:$/.test(url.protocol);
    if (!here || !/(\/|\.html)$/.test(url.pathname)) return null;
    return clean(url) === clean(location.href) && !url.hash ? null : found;
  }

  async function show(target, point) {
    const mine = ++asked;
    let piece;
    try {
      const url = new URL(target.href);
      const doc = await page(url);
      piece = content(doc, decodeURIComponent(url.hash.slice(1)));
      if (!piece?.textContent.trim() && !piece?.querySelector("svg, img")) return;
      settled(piece, doc, url);
    } catch { return; } // the link itself tells that it leads nowhere
    if (mine !== asked || !target.isConnected) return;
    hide();
    asked = mine;
    [link, title] = [target, target.title];
    link.title = "";
    link.setAttribute("aria-describedby", "nn-preview");
    box.replaceChildren(piece);
    box.hidden = false;
    place(target, point);
    box.classList.add("nn-shown");
  }

  function place(target, point) {
    const lines = [...target.getClientRects()];
    const line = lines.find((r) => point && r.top <= point.y && point.y <= r.bottom) ?? lines[0];
    const { top, bottom } = target.getBoundingClientRect();
    const above = top - GAP - EDGE, below = innerHeight - bottom - GAP - EDGE;
    box.style.maxHeight = "";
    const height = box.offsetHeight;
    const under = below >= height || below >= above;
    box.style.maxHeight = `${Math.min(height, under ? below : above)}px`;
    box.style.top = `${under ? bottom + GAP : top - GAP - box.offsetHeight}px`;
    const most = document.documentElement.clientWidth - EDGE - box.offsetWidth;
    box.style.left = `${Math.max(EDGE, Math.min(line.left - 16, most))}px`;
  }

  function hide() {
    clearTimeout(timer);
    asked++;
    if (!link) return;
    if (title) link.title = title;
    link.removeAttribute("aria-describedby");
    link = null;
    box.hidden = true;
    box.classList.remove("nn-shown");
    box.replaceChildren();
  }

  function later(action, wait) {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  }

  function over(event) {
    if (event.pointerType === "touch") return;
    if (box.contains(event.target)) return clearTimeout(timer);
    const target = candidate(event.target);
    const point = { y: event.clientY };
    if (target && target === link) clearTimeout(timer);
    else if (target) later(() => show(target, point), WAIT);
    else if (link) later(hide, GRACE);
    else clearTimeout(timer);
  }

  function begin() {
    if (!document.querySelector("article a[href]")) return;
    box = document.createElement("div");
    box.id = "nn-preview";
    box.className = "nn-preview bd-article";
    box.setAttribute("role", "tooltip");
    box.hidden = true;
    (document.querySelector("main") ?? document.body).append(box);
    document.addEventListener("pointerover", over);
    document.documentElement.addEventListener("pointerleave", () => later(hide, GRACE));
    document.addEventListener("focusin", (event) => {
      const target = event.target.matches?.(":focus-visible") && candidate(event.target);
      if (target) later(() => show(target), WAIT);
    });
    document.addEventListener("focusout", (event) => { if (event.target === link) hide(); });
    document.addEventListener("pointerdown", (event) => {
      if (!box.contains(event.target)) hide();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && link) { hide(); event.stopPropagation(); }
    }, true);
    addEventListener("scroll", () => { if (link) hide(); }, { passive: true });
    addEventListener("resize", hide);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
