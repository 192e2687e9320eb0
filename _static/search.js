// Opens the search, which is loaded only then; marks on a page the words that were looked for.
"use strict";

(() => {
  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const OPENERS = ".search-button__button, [data-nn-search]";

  const load = () => import(new URL("search/dialog.js", root).href);
  const open = () =>
    load().then((dialog) => dialog.open(), () => location.assign(new URL("search.html", root)));

  const types = (element) =>
    element.isContentEditable || /^(input|textarea|select)$/i.test(element.localName);

  // Readers may switch single keys off (keys.js).
  function single() {
    try { return localStorage.getItem("nn-keys-off") !== "1"; } catch { return true; }
  }

  window.addEventListener("keydown", (event) => {
    const ctrlK = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey &&
      event.key.toLowerCase() === "k";
    const slash = event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey &&
      !types(event.target) && single();
    if (!ctrlK && !slash) return;
    event.preventDefault();
    open();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(OPENERS)) return;
    event.preventDefault();
    open();
  });

  /** Return what begins each word as searched: `gradients` also finds `gradient`. */
  function pattern(words) {
    const stems = words.split(/\s+/).filter(Boolean).map((word) =>
      word.replace(word.length > 5 ? /(?:ings?|ions?|ed|es|s|e)$/i : /$^/, "")
        .replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`(?<![\\p{L}\\d])(?:${stems.join("|")})[\\p{L}\\d]*`, "giu");
  }

  function ranges(where, wanted) {
    const found = [];
    const walk = document.createTreeWalker(where, NodeFilter.SHOW_TEXT);
    while (walk.nextNode() && found.length < 1000) {
      const node = walk.currentNode;
      if (node.parentElement.closest("script, style, math, svg, .nn-marks")) continue;
      for (const { index, 0: word } of node.data.matchAll(wanted)) {
        const range = new Range();
        range.setStart(node, index);
        range.setEnd(node, index + word.length);
        found.push(range);
      }
    }
    return found;
  }

  function mark() {
    const words = new URLSearchParams(location.search).get("marks")?.trim();
    const article = document.querySelector("article") ?? document.querySelector("main");
    if (!words || !article || !CSS.highlights) return;
    CSS.highlights.set("nn-marks", new Highlight(...ranges(article, pattern(words))));
    const button = Object.assign(document.createElement("button"), {
      type: "button", textContent: "Remove the marks",
    });
    const note = document.createElement("aside");
    note.className = "nn-marks";
    note.setAttribute("aria-label", "Marked words");
    note.append(`Marked: ${words}`, button);
    button.addEventListener("click", () => {
      CSS.highlights.delete("nn-marks");
      note.remove();
      const url = new URL(location.href);
      url.searchParams.delete("marks");
      history.replaceState(history.state, "", url);
    });
    document.body.append(note);
  }

  function begin() {
    mark();
    const form = document.querySelector(".nn-search-form");
    if (form) load().then((dialog) => dialog.here(form, document.getElementById("nn-search-here")));
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
