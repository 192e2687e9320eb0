// Run in a page after measure.js: the words and lines of its figures, as they are shown.
(() => {
  const { rgba, over, ratio, ground, opacity, anew } = nnMeasure.colour;
  const GLYPH = /-[A-Z]+-[0-9a-f]+$/; // an outlined letter, as nnlib.plot.svg names it
  const LENT = /^s[0-9a-f]+-\d+$/;
  const EM = 100; // units of an outlined letter to the size of its font
  const ASIDE = "defs, clipPath, marker, symbol, mask, pattern";
  const FRAME = ".nn-axis, .nn-casing"; // axes, ticks, grids; what only sets a line off
  const FAINT = 0.8; // opacity of what stands behind on purpose, as nnlib.plot.inks has it
  const PLACES = [...Array(9).keys()].map((at) => (at + 0.5) / 9); // along a line

  const name = (element) => {
    const figure = element.closest("[id^=figure-], .nn-figure, .nn-slider");
    return figure?.id || figure?.querySelector("[id^=figure-]")?.id || "figure";
  };
  const pictures = () =>
    [...document.querySelectorAll(":is(.nn-figure, .nn-slider) svg")].filter(
      (e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().width > 9,
    );
  const scale = (element) => {
    const m = element.getScreenCTM();
    return Math.sqrt(Math.abs(m.a * m.d - m.b * m.c));
  };
  const target = (use) => (use.getAttribute("href") || use.getAttribute("xlink:href") || "").slice(1);

  /** A picture's labels: the element that has the ink, the size of its type in CSS pixels, words. */
  const labels = (picture) => {
    const found = [];
    for (const text of picture.querySelectorAll("text")) {
      if (!text.textContent.trim() || !text.checkVisibility()) continue;
      const parts = [text, ...text.querySelectorAll("tspan")].filter((e) =>
        [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()),
      );
      const size = (e) => parseFloat(getComputedStyle(e).fontSize);
      const main = parts.reduce((best, e) => (size(e) > size(best) ? e : best));
      found.push({ ink: main, box: text, size: size(main) * scale(text), words: text.textContent });
    }
    const outlined = new Map();
    for (const use of picture.querySelectorAll("use")) {
      if (!GLYPH.test(target(use)) || use.closest(ASIDE)) continue;
      const size = EM * scale(use);
      const known = outlined.get(use.parentElement);
      if (!known || known.size < size)
        outlined.set(use.parentElement, { ink: use, box: use.parentElement, size, words: "" });
    }
    return [...found, ...outlined.values()];
  };

  /** The sizes of all labels, smallest first. */
  const types = () =>
    pictures()
      .flatMap((picture) => labels(picture).map((label) => ({ ...label, figure: name(picture) })))
      .map(({ size, words, figure }) => [+size.toFixed(2), figure, words.trim().slice(0, 30)])
      .sort((a, b) => a[0] - b[0]);

  /** Give a picture back what its figure holds once for all, as pipeline.site.light names it. */
  const settle = (picture) => {
    for (const use of picture.querySelectorAll("use")) {
      const shared = LENT.test(target(use)) && document.getElementById(target(use));
      if (!shared) continue;
      const own = shared.cloneNode(true);
      own.removeAttribute("id");
      for (const { name, value } of use.attributes)
        if (name !== "href") own.setAttribute(name, value);
      use.replaceWith(own);
    }
  };

  /** What a picture fills with colour or sets a line off with, in the order of painting. */
  const painted = (picture) =>
    [...picture.querySelectorAll("path, rect, circle, ellipse, polygon, polyline, use, image")]
      .filter((e) => !e.closest(ASIDE) && !(e.localName === "use" && GLYPH.test(target(e))))
      .map((e) => ({ e, style: getComputedStyle(e), box: e.getBoundingClientRect() }))
      .map((shape) => ({ ...shape, casing: shape.e.matches(".nn-casing *") }))
      .filter(({ e, style, casing }) => e.localName === "image" || casing || style.fill !== "none");

  const within = ({ e: shape, casing }, x, y) => {
    let point = new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse());
    if (casing) return shape.isPointInStroke(point);
    let outline = shape;
    if (shape.localName === "use") {
      outline = document.getElementById(target(shape));
      const at = (side) => +shape.getAttribute(side) || 0;
      point = new DOMPoint(point.x - at("x"), point.y - at("y"));
    }
    return outline?.isPointInFill ? outline.isPointInFill(point) : true;
  };
  /** Whether the window of an element, or of a group around it, hides a point of it. */
  const clipped = ({ e }, x, y) => {
    for (let part = e; part.localName !== "svg"; part = part.parentElement) {
      const id = part.getAttribute("clip-path")?.match(/#([^")]+)/)?.[1];
      const window = id && document.getElementById(id)?.firstElementChild;
      if (!window?.isPointInFill) continue;
      const point = new DOMPoint(x, y).matrixTransform(part.getScreenCTM().inverse());
      if (!window.isPointInFill(point)) return true;
    }
    return false;
  };
  const pixels = new Map();
  const pixel = (image, x, y) => {
    const known = pixels.get(image);
    if (!known) return null;
    // In its own space: matplotlib turns images upside down.
    const point = new DOMPoint(x, y).matrixTransform(image.getScreenCTM().inverse());
    const side = (name) => image[name].baseVal.value;
    const across = Math.floor(((point.x - side("x")) / side("width")) * known.width);
    const down = Math.floor(((point.y - side("y")) / side("height")) * known.height);
    const [r, g, b, a] = known.pen.getImageData(across, down, 1, 1).data;
    return [r, g, b, a / 255];
  };
  /** Let the images of a picture be read, one pixel at a time. */
  const develop = async (picture) => {
    for (const image of picture.querySelectorAll("image")) {
      const copy = new Image();
      copy.src = image.getAttribute("href") || image.getAttribute("xlink:href");
      await copy.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [copy.naturalWidth, copy.naturalHeight];
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      pen.drawImage(copy, 0, 0);
      pixels.set(image, { pen, width: canvas.width, height: canvas.height });
    }
  };

  /** The colour under an element at a point: what was painted before it, on the page's ground. */
  const under = (element, shapes, x, y, page) => {
    const layers = [];
    for (let at = shapes.length - 1; at >= 0; at--) {
      const shape = shapes[at];
      const { e, style, box, casing } = shape;
      const edge = casing ? parseFloat(style.strokeWidth) * scale(e) : 0;
      if (e === element || x < box.left - edge || x > box.right + edge) continue;
      if (y < box.top - edge || y > box.bottom + edge) continue;
      if (!(e.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
      if ((e.localName !== "image" && !within(shape, x, y)) || clipped(shape, x, y)) continue;
      const kind = casing ? "stroke" : "fill";
      const paint = e.localName === "image" ? pixel(e, x, y) : rgba(style[kind]).slice();
      if (!paint) continue;
      paint[3] *= opacity(e) * (e.localName === "image" ? 1 : +style[`${kind}Opacity`]);
      layers.push(paint);
      if (paint[3] > 0.99) break;
    }
    return layers.reduceRight((below, top) => over(top, below), page);
  };

  const hex = (color) =>
    "#" + color.slice(0, 3).map((c) => Math.round(c).toString(16).padStart(2, "0")).join("");

  const word = ({ ink, box, words, size }, shapes, page) => {
    const place = box.getBoundingClientRect();
    const style = getComputedStyle(ink);
    const [x, y] = [place.left + place.width / 2, place.top + place.height / 2];
    const along = place.width >= place.height ? [place.width / 3, 0] : [0, place.height / 3];
    const halo = style.stroke !== "none" && style.paintOrder.startsWith("stroke");
    const ratios = [-1, 0, 1].map((side) => {
      let below = under(ink, shapes, x + side * along[0], y + side * along[1], page);
      if (halo) below = over(rgba(style.stroke), below);
      const paint = rgba(style.fill).slice();
      paint[3] *= opacity(ink) * +style.fillOpacity;
      return [ratio(over(paint, below), below), hex(paint), hex(below)];
    });
    const [worst, paint, below] = ratios.sort((a, b) => a[0] - b[0])[0];
    const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    return { worst, least: large ? 3 : 4.5, what: `${paint} on ${below} “${words.trim().slice(0, 30)}”` };
  };

  /** Lines that carry meaning: unfilled, broad enough to have a colour, no part of an axis. */
  const lines = (picture) =>
    [...picture.querySelectorAll("path, line, polyline, rect, circle, ellipse")]
      .filter((e) => !e.closest(ASIDE) && !e.closest(FRAME))
      .map((e) => ({ e, style: getComputedStyle(e) }))
      .filter(({ e, style }) => {
        const empty = style.fill === "none" || rgba(style.fill)[3] * style.fillOpacity < 0.01;
        if (!empty || style.stroke === "none") return false;
        const drawn = rgba(style.stroke)[3] * +style.strokeOpacity * opacity(e);
        return drawn > FAINT && parseFloat(style.strokeWidth) * scale(e) >= 0.75;
      });

  /** How far a line stands out from what lies a pixel beside it, along half of its length. */
  const line = ({ e, style }, shapes, page) => {
    const length = e.getTotalLength();
    const place = e.getScreenCTM();
    const away = (parseFloat(style.strokeWidth) * scale(e)) / 2 + 0.5;
    const ink = rgba(style.stroke).slice();
    ink[3] *= opacity(e) * +style.strokeOpacity;
    const at = (where) => e.getPointAtLength(where).matrixTransform(place);
    const beside = ({ x, y }) => {
      const below = under(e, shapes, x, y, page);
      return [ratio(over(ink, below), below), hex(below)];
    };
    const ratios = [];
    for (const share of length ? PLACES : []) {
      const middle = at(length * share);
      if (clipped({ e }, middle.x, middle.y)) continue;
      const [back, on] = [at(length * (share - 0.01)), at(length * (share + 0.01))];
      const step = Math.hypot(on.x - back.x, on.y - back.y) || 1;
      const [x, y] = [((back.y - on.y) / step) * away, ((on.x - back.x) / step) * away];
      const sides = [1, -1].map((to) => beside({ x: middle.x + to * x, y: middle.y + to * y }));
      ratios.push(sides[0][0] > sides[1][0] ? sides[0] : sides[1]);
    }
    if (!ratios.length) return null;
    const [worst, below] = ratios.sort((a, b) => b[0] - a[0])[Math.floor(ratios.length / 2)];
    return { worst, least: 3, what: `${hex(rgba(style.stroke))} on ${below}` };
  };

  /** The words below 4.5 : 1 and the lines below 3 : 1, each kind of them once a figure. */
  const pale = async () => {
    const found = { words: new Map(), lines: new Map() };
    for (const picture of pictures()) {
      settle(picture);
      await develop(picture);
      anew();
      const [shapes, page] = [painted(picture), ground(picture)];
      const note = (kind, seen) => {
        if (!seen || seen.worst >= seen.least) return;
        const key = `${name(picture)} ${seen.what}`;
        found[kind].set(key, `${name(picture)}: ${seen.worst.toFixed(2)} ${seen.what}`);
      };
      for (const label of labels(picture)) note("words", word(label, shapes, page));
      for (const each of lines(picture)) note("lines", line(each, shapes, page));
    }
    return { words: [...found.words.values()], lines: [...found.lines.values()] };
  };

  /** Show every frame of the sliders, one below the other. */
  const lay_out = () => {
    for (const packed of document.querySelectorAll("template.nn-frame")) {
      const frame = document.createElement("div");
      frame.className = packed.className;
      frame.append(packed.content);
      packed.replaceWith(frame);
    }
    for (const frame of document.querySelectorAll(".nn-frame")) frame.hidden = false;
  };

  Object.assign(window.nnMeasure, { lay_out, types, pale });
})();
