/* Figures: a click enlarges one in a dialog, which also hands it out as SVG and as PNG. */
(() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const PNG_WIDTH = 2400;
  const ICON =
    '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M9.5 2.5h4v4M13.5 2.5l-4.6 4.6M6.5 13.5' +
    'h-4v-4M2.5 13.5l4.6-4.6" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>';

  /* The picture that a figure shows: of a slider, the frame that is seen. */
  const shown = (figure) =>
    figure.querySelector(".nn-frame:not([hidden]) .nn-wide") || figure.querySelector(".nn-wide");

  const named = (figure) => figure.querySelector(".nn-number")?.textContent || "Figure";

  /* A copy with ids of its own, which takes along what it refers to elsewhere on the page. */
  const copied = (picture) => {
    const copy = picture.cloneNode(true);
    copy.removeAttribute("class");
    const defs = copy.insertBefore(document.createElementNS(SVG, "defs"), copy.firstChild);
    for (const use of copy.querySelectorAll("use")) {
      const id = use.getAttribute("href").slice(1);
      if (copy.querySelector(`#${CSS.escape(id)}`)) continue;
      const elsewhere = document.getElementById(id);
      if (elsewhere) defs.append(elsewhere.cloneNode(true));
    }
    for (const node of copy.querySelectorAll("[id]")) node.id = `${node.id}-copy`;
    for (const node of copy.querySelectorAll("[href^='#'], [clip-path]")) {
      for (const name of ["href", "clip-path"]) {
        const told = node.getAttribute(name);
        if (told?.includes("#")) {
          node.setAttribute(name, told.replace(/#([^)]+)/, "#$1-copy"));
        }
      }
    }
    return copy;
  };

  /* The rules of the page's font, with the files themselves, for a picture that stands alone. */
  const fontRules = async () => {
    const rules = [];
    for (const sheet of document.styleSheets) {
      let known = [];
      try {
        known = [...sheet.cssRules];
      } catch {
        continue;
      }
      for (const rule of known) {
        if (!(rule instanceof CSSFontFaceRule)) continue;
        if (!rule.style.fontFamily.includes("Source Sans 3")) continue;
        const path = rule.style.src.match(/url\("?([^")]+)"?\)/)?.[1];
        if (path) rules.push(embedded(rule, new URL(path, sheet.href || document.baseURI)));
      }
    }
    return (await Promise.all(rules)).join("");
  };

  const embedded = async (rule, url) => {
    const file = await (await fetch(url)).blob();
    const data = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(file);
    });
    const { fontStyle, fontWeight, unicodeRange } = rule.style;
    return (
      `@font-face{font-family:"Source Sans 3";font-style:${fontStyle};font-weight:${fontWeight};` +
      `${unicodeRange ? `unicode-range:${unicodeRange};` : ""}src:url(${data})}`
    );
  };

  /* An image of a file is a PNG: not all programs know WebP. */
  const repainted = async (image) => {
    const seen = new Image();
    seen.src = image.getAttribute("href");
    await seen.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [seen.naturalWidth, seen.naturalHeight];
    canvas.getContext("2d").drawImage(seen, 0, 0);
    image.setAttribute("href", canvas.toDataURL());
  };

  /* The picture as a file: colours of light mode, a light ground, the font within. */
  const file = async (picture) => {
    const copy = copied(picture);
    const bench = document.createElement("div");
    bench.className = "nn-light nn-bench";
    bench.append(copy);
    document.body.append(bench);
    const nodes = [...copy.querySelectorAll("[style], [fill]")];
    const tones = nodes.map((node) => {
      const { fill, stroke } = getComputedStyle(node);
      return { fill, stroke };
    });
    nodes.forEach((node, at) => {
      for (const name of ["fill", "stroke"]) {
        if (node.style[name] || node.hasAttribute(name)) node.style[name] = tones[at][name];
        node.removeAttribute(name);
      }
    });
    bench.remove();
    const [x, y, width, height] = copy.getAttribute("viewBox").split(" ").map(Number);
    copy.setAttribute("width", (width * 4) / 3);
    copy.setAttribute("height", (height * 4) / 3);
    copy.style.cssText = "stroke-linejoin:round;font-family:'Source Sans 3',sans-serif";
    const ground = document.createElementNS(SVG, "rect");
    Object.entries({ x, y, width, height, fill: "#fff" }).forEach((pair) =>
      ground.setAttribute(...pair)
    );
    const style = document.createElementNS(SVG, "style");
    style.textContent = await fontRules().catch(() => "");
    await Promise.all([...copy.querySelectorAll("image[href*='/webp;']")].map(repainted));
    copy.prepend(style, ground);
    return { text: new XMLSerializer().serializeToString(copy), width, height };
  };

  const painted = async ({ text, width, height }) => {
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = PNG_WIDTH;
    canvas.height = Math.round((PNG_WIDTH * height) / width);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  };

  const handOut = async (figure, kind) => {
    const drawn = await file(shown(figure));
    const blob =
      kind === "png" ? await painted(drawn) : new Blob([drawn.text], { type: "image/svg+xml" });
    const link = document.createElement("a");
    const page = location.pathname.split("/").pop().replace(/\.html$/, "") || "figure";
    link.download = `${page}-${figure.id.replace(/^figure-/, "")}.${kind}`;
    link.href = URL.createObjectURL(blob);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  let dialog = null;
  let current = null;

  const made = () => {
    dialog = document.createElement("dialog");
    dialog.className = "nn-dialog";
    dialog.setAttribute("aria-labelledby", "nn-dialog-name");
    dialog.innerHTML =
      '<header><strong id="nn-dialog-name"></strong>' +
      '<button type="button" data-kind="svg" aria-label="Download as SVG">SVG</button>' +
      '<button type="button" data-kind="png" aria-label="Download as PNG">PNG</button>' +
      '<button type="button" data-close>Close</button></header>' +
      '<div class="nn-large" tabindex="0" role="region" aria-label="Picture"></div><p></p>';
    dialog.addEventListener("click", (event) => {
      const kind = event.target.dataset.kind;
      if (kind) handOut(current, kind);
      else if (event.target === dialog || "close" in event.target.dataset) dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.querySelector(".nn-large").replaceChildren();
      current.querySelector(".nn-enlarge").focus({ preventScroll: true });
    });
    document.body.append(dialog);
  };

  const enlarge = (figure) => {
    if (!dialog) made();
    current = figure;
    const copy = copied(shown(figure));
    const caption = figure.querySelector("figcaption").cloneNode(true);
    for (const node of caption.querySelectorAll(".nn-number, .nn-enlarge")) node.remove();
    for (const node of caption.querySelectorAll("[id]")) node.removeAttribute("id");
    dialog.querySelector("strong").textContent = named(figure);
    dialog.querySelector(".nn-large").replaceChildren(copy);
    dialog.querySelector("p").replaceChildren(...caption.childNodes);
    dialog.showModal();
  };

  const prepare = (figure) => {
    if (!shown(figure)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "nn-enlarge";
    button.setAttribute("aria-label", `Enlarge or download: ${named(figure)}`);
    button.title = "Enlarge or download";
    button.innerHTML = ICON;
    button.addEventListener("click", () => enlarge(figure));
    figure.querySelector("figcaption").append(button);
    figure.addEventListener("click", (event) => {
      if (event.target.closest(".nn-picture") && !event.target.closest("a") && String(getSelection()) === "") enlarge(figure);
    });
  };

  const begin = () => document.querySelectorAll("figure.nn-figure").forEach(prepare);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
