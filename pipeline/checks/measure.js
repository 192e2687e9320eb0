// Run in a page by measuring.py: what the page looks like, as numbers.
(() => {
  const MATHML = "http://www.w3.org/1998/Math/MathML";
  const SVG = "http://www.w3.org/2000/svg";
  const seen = new Map();
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });

  /** Any CSS colour as [r, g, b, alpha], the first three from 0 to 255. */
  const rgba = (color) => {
    if (!seen.has(color)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = color;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      seen.set(color, [r, g, b, a / 255]);
    }
    return seen.get(color);
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const luminance = (color) => {
    const [r, g, b] = color.map((c) => {
      const s = c / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  /** How far two opaque colours stand apart, from 1 to 21. */
  const ratio = (one, other) => {
    const pair = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  };
  const known = { ground: new WeakMap(), opacity: new WeakMap() }; // of one look: a theme changes all
  const once = (kind, element, find) => {
    if (!known[kind].has(element)) known[kind].set(element, find());
    return known[kind].get(element);
  };
  const anew = () => {
    for (const kind in known) known[kind] = new WeakMap();
  };
  const ground = (element) => once("ground", element, () => {
    const top = rgba(getComputedStyle(element).backgroundColor);
    if (top[3] === 1) return top.slice(0, 3);
    return over(top, element.parentElement ? ground(element.parentElement) : [255, 255, 255]);
  });
  const opacity = (element) => once("opacity", element, () => {
    const outer = element.parentElement ? opacity(element.parentElement) : 1;
    return outer * getComputedStyle(element).opacity;
  });
  const shown = (element) =>
    element.checkVisibility({ visibilityProperty: true }) &&
    element.getBoundingClientRect().width > 1 &&
    !element.closest("[aria-hidden=true], .visually-hidden, .headerlink, svg");

  /** Words whose contrast with what lies under them is below 4.5 (large type: 3). */
  const faint = () => {
    anew();
    const [found, met] = [new Map(), new Set()];
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
      const element = words.currentNode.parentElement;
      if (element.namespaceURI === SVG || met.has(element)) continue;
      if (!words.currentNode.data.trim()) continue;
      met.add(element);
      // Letters of one formula look alike, and so do pieces of code of one kind on one ground.
      const outer = element.parentElement;
      const like =
        (element.namespaceURI === MATHML && element.closest("math")) ||
        (outer.localName === "pre" && `${element.className} on ${ground(outer)}`);
      if ((like && met.has(like)) || !shown(element)) continue;
      met.add(like);
      const style = getComputedStyle(element);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
      const under = ground(element);
      const ink = rgba(style.color).slice();
      ink[3] *= opacity(element);
      const contrast = ratio(over(ink, under), under);
      if (contrast >= (large ? 3 : 4.5)) continue;
      const name = `${element.localName}.${[...element.classList].join(".")}`;
      const text = words.currentNode.data.trim().slice(0, 30);
      found.set(name, `${name} ${contrast.toFixed(2)} “${text}”`);
    }
    return [...found.values()];
  };

  const boxed = (element) => {
    for (let e = element.parentElement; e && e !== document.body; e = e.parentElement)
      if (getComputedStyle(e).overflowX !== "visible") return true;
    return false;
  };

  /** Elements that reach out of the window, where nothing around them scrolls or clips. */
  const wide = () => {
    const width = document.documentElement.clientWidth;
    if (document.scrollingElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > width + 1 && e.checkVisibility())
      .filter((e) => !e.closest(".bd-sidebar, .bd-sidebar-secondary"))
      .filter((e) => !boxed(e))
      .slice(-5)
      .map((e) => `${e.localName}.${[...e.classList].join(".")} in ${e.parentElement.className}`)
      .concat(`the page is ${document.scrollingElement.scrollWidth} px wide, the window ${width}`);
  };

  /** Displayed equations that must be scrolled to be read. */
  const cut = () =>
    [...document.querySelectorAll("article .nn-formula")]
      .filter((e) => e.scrollWidth > e.clientWidth + 1)
      .map((e) => e.textContent.trim().slice(0, 60));

  /** What is wrong with formulas that must be scrolled, of which the first three are looked at. */
  const scrolled = async () => {
    // What a closed fold holds is laid out, and marked as scrolling, only once it is opened.
    const folds = [...document.querySelectorAll("article details:not([open])")].filter((fold) =>
      fold.querySelector(".nn-formula"),
    );
    for (const fold of folds) fold.open = true;
    const wrong = await scrolledNow();
    for (const fold of folds) fold.open = false;
    return wrong;
  };
  const scrolledNow = async () => {
    const boxes = [...document.querySelectorAll("article .nn-formula")];
    const name = (box) => box.parentElement.id || box.textContent.trim().slice(0, 40);
    const scrolls = (box) => box.scrollWidth > box.clientWidth + 1;
    const tick = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const wrong = [];
    for (let count = 0; count < 3; count++) await tick();
    for (const box of boxes)
      if (box.tabIndex === 0 && !scrolls(box)) wrong.push(`stop: ${name(box)}`);
    for (const box of boxes.filter(scrolls).slice(0, 3)) {
      box.scrollIntoView({ block: "center" });
      for (let count = 0; count < 3; count++) await tick();
      const edge = box.parentElement.querySelector(".eqno")?.getBoundingClientRect().right ?? 0;
      const { maskImage, backgroundImage } = getComputedStyle(box);
      if (box.tabIndex !== 0) wrong.push(`no keyboard: ${name(box)}`);
      if (edge > innerWidth) wrong.push(`no number: ${name(box)}`);
      if (maskImage === "none" && backgroundImage === "none") wrong.push(`no fade: ${name(box)}`);
    }
    return wrong;
  };

  /** Formulas, those without a `<math>`, those that TeX could not make, and TeX left in the text. */
  const mathematics = () => {
    const written = [...document.querySelectorAll(".math")];
    const walker = document.createTreeWalker(document.querySelector("article"), 4);
    const raw = [];
    while (walker.nextNode()) {
      const text = walker.currentNode;
      if (text.parentElement.closest("pre, code, script, style")) continue;
      if (/\$\$|\\\(|\\\[|\\begin\{/.test(text.data)) raw.push(text.data.trim().slice(0, 60));
    }
    const ours = [...document.fonts].filter(({ family }) => /STIX/.test(family));
    return {
      written: written.length,
      bare: written.filter((e) => !e.querySelector("math")).map((e) => e.textContent.slice(0, 60)),
      errors: [...document.querySelectorAll("math merror")].map((e) => e.textContent),
      font: ours.some(({ status }) => status === "loaded"),
      raw,
    };
  };

  /** The picture of a slider without its ids and words, which differ from frame to frame anyway. */
  const picture = (slider) => {
    const visible = [...slider.querySelectorAll(".nn-frame")].filter((e) => e.checkVisibility());
    if (visible.length !== 1) return null;
    const copy = visible[0].cloneNode(true);
    for (const e of copy.querySelectorAll("*"))
      for (const name of ["id", "aria-label", "clip-path"]) e.removeAttribute(name);
    return copy.innerHTML.replace(/url\(#[^)]*\)/g, "").replace(/href="#i[0-9a-f]+-/g, 'href="#');
  };

  /** What a slider shows and says now, and how high it stands. */
  const frame = (slider) => ({
    picture: picture(slider),
    shown: slider.querySelector("output").textContent,
    spoken: slider.querySelector("input").getAttribute("aria-valuetext"),
    described: slider.querySelector(".nn-frame:not([hidden]) svg[role=img]")?.ariaLabel,
    height: slider.getBoundingClientRect().height,
  });

  const colour = { rgba, over, ratio, ground, opacity, anew };
  window.nnMeasure = { colour, faint, wide, cut, scrolled, mathematics, frame };
  const still = document.createElement("style");
  // Everything is laid out, also what the page leaves for later.
  still.textContent =
    "*, *::before, *::after { transition: none !important; content-visibility: visible !important; }";
  document.head.append(still);
})();
