// Live models: a recorded example until a reader touches the form; only then are the script of the
// forms, the engine and the model loaded. nnlib/live writes the markup, live/live.js does the rest.
(() => {
  "use strict";

  const forms = document.querySelectorAll(".nn-live-form");
  if (!forms.length) return;
  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const asked = new Map();

  /** Load a script of this site, once; plain scripts also load where a page is opened as a file. */
  const load = (path) => {
    if (!asked.has(path))
      asked.set(path, new Promise((done, failed) => {
        const script = Object.assign(document.createElement("script"), {
          src: new URL(path, root).href, onload: done,
          onerror: () => {
            asked.delete(path);
            script.remove();
            failed(new Error(path));
          },
        });
        document.head.append(script);
      }));
    return asked.get(path);
  };
  self.nnLoad = load;

  // A finger that only scrolls past touches nothing; a pen on a drawing counts from its first dot.
  const DRAWN = "canvas, .nn-damage, .nn-plane, .nn-cart";
  const TOUCHED = `button, input, select, label, ${DRAWN}`;
  const touches = (event) => {
    if (event.type.startsWith("pointer")) return event.target.closest(DRAWN);
    if (event.type === "keydown")
      return event.target.closest(TOUCHED) && !event.ctrlKey && !event.metaKey && !event.altKey &&
        !/^(Tab|Shift|Escape)$/.test(event.key);
    return event.target.closest(TOUCHED);
  };

  const EVENTS = ["pointerdown", "pointermove", "pointerup", "keydown", "input", "change", "click"];
  for (const form of forms) {
    const figure = form.closest("figure");
    const told = figure.querySelector(".nn-live-told");
    const before = told.textContent;
    const early = [];
    let begun = false;

    const wake = (event) => {
      if (!touches(event) || (!begun && event.type === "pointermove")) return;
      if (form.contains(event.target)) early.push(event);
      if (event.type === "keydown" && event.target.closest(DRAWN)) event.preventDefault();
      if (begun) return;
      begun = true;
      begin();
    };
    const begin = async () => {
      told.style.minHeight = `${told.offsetHeight}px`; // what comes is shorter, and nothing may jump
      told.textContent = "Loading the model …";
      try {
        await Promise.all([load("_static/live/live.js"), load(`live/${figure.dataset.live}.js?v=${figure.dataset.version}`)]);
      } catch {
        told.textContent = `The model could not be loaded. ${before.split(". ")[0]}.`;
        for (const field of form.querySelectorAll("input")) field.value = field.defaultValue;
        for (const option of form.querySelectorAll("option")) option.selected = option.defaultSelected;
        begun = false;
        early.length = 0;
        return;
      }
      for (const kind of EVENTS) form.removeEventListener(kind, wake);
      self.nnLive.start(figure, early);
    };
    for (const kind of EVENTS) form.addEventListener(kind, wake);
    // Browsers do not keep touch-action within a drawing: a finger on a point would move the page.
    form.querySelector(".nn-plane")?.addEventListener("touchstart", (event) => {
      if (event.target.closest(".nn-point, .nn-pull")) event.preventDefault();
    }, { passive: false });
  }
})();
