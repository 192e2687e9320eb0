/* Formulas that do not fit can be scrolled with the keyboard; the others are no stop on the way. */
(() => {
  "use strict";
  const mark = (box) => {
    const number = box.parentElement.querySelector(".eqno")?.firstChild?.data ?? "";
    const attributes = { tabindex: "0", role: "group", "aria-label": `Equation ${number}`.trim() };
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    for (const [name, value] of Object.entries(attributes))
      scrolls ? box.setAttribute(name, value) : box.removeAttribute(name);
  };
  const start = () => {
    const watch = new ResizeObserver((entries) =>
      new Set(entries.map(({ target }) => target.closest(".nn-formula"))).forEach(mark),
    );
    // The box changes with the window, what is in it with the font.
    for (const one of document.querySelectorAll(".nn-formula, .nn-formula > math"))
      watch.observe(one);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
