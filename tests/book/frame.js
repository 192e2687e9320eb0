// What stands around the text of an open page, as tests/book/test_frame.py holds it.
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (element) => element.checkVisibility();
  const left = (selector) => {
    const element = document.querySelector(selector);
    return element && Math.round(element.getBoundingClientRect().left);
  };

  /** How many letters of code fit into a line of a cell. */
  const columns = () => {
    const block = all(".cell_input pre").find(shown);
    if (!block) return null;
    const { fontSize, paddingLeft, paddingRight } = getComputedStyle(block);
    const room = block.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    return Math.floor(room / (0.6 * parseFloat(fontSize)));
  };

  const loads = performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname);
  const current = document.querySelector("nav.bd-links [aria-current=page]");
  const within = (element, box) => {
    const [a, b] = [element, box].map((one) => one.getBoundingClientRect());
    return a.top >= b.top && a.bottom <= Math.min(b.bottom, innerHeight);
  };
  return {
    scripts: loads.filter((path) => path.endsWith(".js")).map((path) => path.split("/").pop()),
    sheets: loads.filter((path) => path.endsWith(".css")).map((path) => path.split("/").pop()),
    text: left(".bd-article h1"),
    columns: columns(),
    icons: all("i[class*='fa-'], span[class*='fa-']").length,
    open: all("nav.bd-links > ul > li > details[open]").length,
    current: current ? within(current, document.querySelector("#pst-primary-sidebar")) : null,
  };
})();
