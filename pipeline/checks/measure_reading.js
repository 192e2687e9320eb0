// Run in a page after measure.js: its weight, its length, its code, and its stops for the keyboard.
(() => {
  const kilo = (bytes) => +(bytes / 1000).toFixed(1);
  const sum = (entries, field) => kilo(entries.reduce((total, e) => total + e[field], 0));

  /** What came over the line: numbers, kilobytes as transferred (gz) and as unpacked. */
  const weight = () => {
    const page = performance.getEntriesByType("navigation")[0];
    const parts = performance.getEntriesByType("resource").filter((e) => /^https?:/.test(e.name));
    const all = [page, ...parts];
    const scripts = parts.filter((e) => e.initiatorType === "script" || /\.js($|\?)/.test(e.name));
    const blocking = parts.filter((e) => e.renderBlockingStatus === "blocking");
    const path = (e) => new URL(e.name).pathname;
    return {
      requests: all.length,
      kB: sum(all, "decodedBodySize"),
      kBgz: sum(all, "encodedBodySize"),
      html: sum([page], "decodedBodySize"),
      htmlgz: sum([page], "encodedBodySize"),
      jsgz: sum(scripts, "encodedBodySize"),
      blockinggz: sum(blocking, "encodedBodySize"),
      scripts: scripts.map(path).sort(),
      parts: parts.map((e) => [path(e), kilo(e.encodedBodySize)]).sort((a, b) => b[1] - a[1]),
    };
  };

  /** Scripts of the head that hold the parser up, inline ones by their size in bytes. */
  const holding = () =>
    [...document.head.querySelectorAll("script")]
      .filter((e) => !/json|template|importmap/.test(e.type) && e.type !== "module")
      .filter((e) => (e.src ? !e.defer && !e.async : e.textContent.length > 1000))
      .map((e) => (e.src ? new URL(e.src).pathname : `inline, ${e.textContent.length} characters`));

  const top = (selector) => {
    const first = [...document.querySelectorAll(selector)].find((e) => e.checkVisibility());
    return first ? first.getBoundingClientRect().top + scrollY : null;
  };

  /** The length of the page, and where its first figure and slider begin, in windows full. */
  const screens = () => {
    const share = (px) => (px === null ? null : +(px / innerHeight).toFixed(2));
    return {
      screens: share(document.scrollingElement.scrollHeight),
      figure: share(top(".nn-figure:not(.nn-slider)")),
      slider: share(top(".nn-slider")),
    };
  };

  /** Open every fold: what a reader may see is measured, not only what shows at first. */
  const unfold = () => {
    for (const fold of document.querySelectorAll("article details")) fold.open = true;
  };

  /** Code that is wider than its box: blocks, lines, and which lines. */
  const code = () => {
    const found = { blocks: 0, cut: 0, lines: 0, linesCut: 0, which: [] };
    const ruler = document.createElement("span");
    ruler.textContent = "0".repeat(50);
    for (const block of document.querySelectorAll("article .highlight pre")) {
      if (!block.checkVisibility()) continue;
      const lines = block.textContent.replace(/\n$/, "").split("\n");
      found.blocks += 1;
      found.lines += lines.length;
      if (block.scrollWidth <= block.clientWidth + 1) continue;
      block.append(ruler);
      const letter = ruler.getBoundingClientRect().width / 50;
      ruler.remove();
      const style = getComputedStyle(block);
      const room = block.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      const cut = lines.filter((line) => [...line].length * letter > room + 1);
      found.cut += 1;
      found.linesCut += cut.length;
      found.which.push((cut[0] ?? lines[0]).trim().slice(0, 60));
    }
    return found;
  };

  const FOCUSABLE =
    "a[href], area[href], button, input, select, textarea, summary, iframe, [contenteditable], " +
    "audio[controls], video[controls], [tabindex]";
  const reachable = (e) =>
    e.checkVisibility({ visibilityProperty: true }) &&
    e.getClientRects().length > 0 &&
    !e.closest("[inert]");
  const focusable = (e) =>
    e.matches(FOCUSABLE) && e.tabIndex >= 0 && !e.disabled && e.type !== "hidden" && reachable(e);
  /** A box that scrolls is a stop of its own where nothing in it is one. */
  const scrolls = (e) => {
    const style = getComputedStyle(e);
    const by = (overflow, size, room) => /auto|scroll/.test(overflow) && size > room + 1;
    return (
      (by(style.overflowX, e.scrollWidth, e.clientWidth) ||
        by(style.overflowY, e.scrollHeight, e.clientHeight)) &&
      reachable(e) &&
      ![...e.querySelectorAll(FOCUSABLE)].some(focusable)
    );
  };

  /** How often one presses Tab: before the text, to the end of its first section, and in all. */
  const stops = () => {
    const groups = new Set();
    const all = [...document.querySelectorAll("body *")].filter((e) => {
      if (e.namespaceURI !== document.documentElement.namespaceURI && !e.matches("[tabindex], a"))
        return false;
      if (!focusable(e) && !(e.tabIndex < 0 && !e.matches(FOCUSABLE) && scrolls(e))) return false;
      if (e.type !== "radio") return true;
      const group = `${e.form?.id} ${e.name}`;
      return !groups.has(group) && groups.add(group);
    });
    const article = document.querySelector("article");
    const sections = [...document.querySelectorAll("article > section > section")];
    const before = (node) =>
      all.filter((e) => e.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING).length;
    const inside = (node) => all.filter((e) => node.contains(e)).length;
    const text = article ? before(article) : all.length;
    const own = sections.map(inside);
    return {
      all: all.length,
      before: text,
      first: sections.length ? before(sections[0]) + own[0] : text,
      section: own.length ? +(own.reduce((a, b) => a + b, 0) / own.length).toFixed(1) : 0,
    };
  };

  const nodes = () => document.querySelectorAll("*").length;

  Object.assign(window.nnMeasure, { weight, holding, screens, unfold, code, stops, nodes });
})();
