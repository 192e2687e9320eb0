/* Loaded first on every page. Three repairs without which the self-hosted parts do not work. */
(() => {
  "use strict";
  const root = document.documentElement.dataset.content_root || "./";

  // The theme's FontAwesome would turn the play button's <i> into <svg>; ipywidgets then throws on
  // every change, and sliders no longer move their picture.
  window.FontAwesomeConfig = { observeMutations: false };

  // The widget manager resolves its font against require.js's base, which is the page otherwise.
  if (!window.require) window.require = { baseUrl: root + "vendor" };

  // ipywidgets 8 typesets labels through MathJax 2's queue; MathJax 3 has none.
  const typeset = (...call) => {
    const [command, , element] = call.flat();
    if (String(command) !== "Typeset" || !window.MathJax?.startup?.promise) return;
    window.MathJax.startup.promise.then(() =>
      window.MathJax.typesetPromise(element ? [element] : undefined),
    );
  };
  const hub = { Queue: (...calls) => calls.forEach((call) => typeset(call)), Config() {} };
  let current = window.MathJax;
  const withHub = (value) => {
    if (value && typeof value === "object" && !value.Hub) value.Hub = hub;
    return value;
  };
  if (!Object.getOwnPropertyDescriptor(window, "MathJax")?.set) {
    Object.defineProperty(window, "MathJax", {
      configurable: true,
      get: () => current,
      set: (value) => {
        current = withHub(value);
      },
    });
    if (current) current = withHub(current);
  }
})();
