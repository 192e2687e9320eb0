/* Runs in Chromium: makes one document of the site's pages, which pdf.py prints.

   Ids are unique in a page only, so each gets its page's name before it, and links follow. What
   moves or folds on the site stands still: a slider shows its first frame, folded code is left out,
   and answers stand at the end of their chapter, as they do in books. */
"use strict";

const nnPdf = (() => {
  const problems = [];
  const COLOURED = /^(k|s|m|c|n[fcdet]|il|bp|no|ow|dl|g[op])/; // by _static/code.css
  const slug = (doc) => doc.replace(/^chapters\//, "").replaceAll("/", "-");

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // A place for the number of the page that `id` falls on; pdf.py fills it.
  const numberOf = (id) => make("span", { class: "nn-sheet", "data-of": id });

  // ---- One page of the site

  function sliders(article) {
    for (const figure of article.querySelectorAll("figure.nn-slider")) {
      const [label, value] = ["label", "output"].map((tag) => figure.querySelector(tag).textContent);
      const count = figure.querySelectorAll(".nn-frame").length;
      figure.querySelectorAll(".nn-controls, template").forEach((element) => element.remove());
      const words = `Shown: ${label} ${value}, the first of ${count} frames.`;
      figure.querySelector("figcaption").append(" ", make("em", {}, words));
    }
  }

  // Answers and solutions move to the end; what was asked keeps a link there.
  function answers(article) {
    const asked = article.querySelector("#check-yourself");
    const held = make("section", { id: "answers" }, make("h2", {}, "Answers"));
    for (const paragraph of asked?.querySelectorAll(":scope > p") ?? []) {
      const label = paragraph.querySelector(":scope > strong:first-child")?.textContent.trim();
      const [, kind, number] = /^(Question|Exercise) (\d+)\.$/.exec(label) ?? [];
      const moved = kind ? follow(paragraph) : [];
      if (!moved.length) continue;
      const name = `${kind.toLowerCase()}-${number}`;
      const words = kind === "Question" ? "Answer: page " : "Solution: page ";
      const link = { href: `#answer-${name}`, class: "nn-to" };
      paragraph.id ||= name; // or the text has named it
      paragraph.append(" ", make("a", link, words, numberOf(`answer-${name}`)));
      const back = make("strong", {}, make("a", { href: `#${paragraph.id}` }, label));
      if (moved[0].matches("p")) moved[0].prepend(back, " ");
      else moved.unshift(make("p", {}, back));
      held.append(make("div", { id: `answer-${name}`, class: "nn-answer" }, ...moved));
    }
    if (held.children.length > 1) article.querySelector("section").append(held);
  }

  // Take out what is folded after a question: the words of an answer, the cells of a solution.
  function follow(paragraph) {
    const moved = [];
    for (let next = paragraph.nextElementSibling; next; next = paragraph.nextElementSibling) {
      const code = next.matches(".cell") && next.querySelector(":scope > details.nn-fold");
      if (next.matches("details.sd-dropdown")) {
        moved.push(...next.querySelector(".sd-summary-content").children);
      } else if (code) {
        code.replaceWith(code.querySelector(".cell_input"));
        moved.push(next);
      } else break;
      next.remove();
    }
    return moved;
  }

  function strip(article) {
    const gone =
      "script, noscript, button, nav, a.headerlink, .viewcode-link, .nn-facts, .nn-end, " +
      "details.nn-fold, .nn-live :is(.nn-pad, .nn-row, .nn-letters, .nn-examples, .nn-touch, input[type=range])";
    const sizes = '[class^="nn-form-"] small'; // of this very file
    article.querySelectorAll(`${gone}, ${sizes}`).forEach((element) => element.remove());
    for (const cell of article.querySelectorAll("div.cell"))
      if (!cell.children.length) cell.remove();
    // Words of code that have no colour need no element: half of a book's elements are these.
    for (const word of article.querySelectorAll(".highlight span"))
      if (!COLOURED.test(word.className)) word.replaceWith(...word.childNodes);
    article.normalize();
    for (const folded of article.querySelectorAll("details")) folded.open = true;
  }

  // Every id, and whatever names one, gets the page's name before it.
  function rename(article, name) {
    const own = (id) => `${name}--${id}`;
    for (const element of article.querySelectorAll("*")) {
      for (const attribute of [...element.attributes]) {
        const { name: key, value } = attribute;
        if (["id", "for", "data-of"].includes(key)) attribute.value = own(value);
        else if (/^aria-(labelledby|describedby|controls)$/.test(key))
          attribute.value = value.split(/\s+/).map(own).join(" ");
        else if (value.includes("url(#"))
          attribute.value = value.replace(/url\(#([^)]+)\)/g, (_, id) => `url(#${own(id)})`);
        else if (/(^|:)href$/.test(key) && value.startsWith("#") && element.localName !== "a")
          attribute.value = `#${own(value.slice(1))}`;
      }
    }
  }

  // Links lead within the document, where it has their page; to other files, they become words.
  function relink(article, doc, address, known) {
    for (const link of article.querySelectorAll("a")) {
      const key = link.hasAttribute("href") ? "href" : "xlink:href";
      const value = link.getAttribute(key);
      if (value === null) continue;
      const url = new URL(value, `${address}${doc}.html`);
      if (url.origin !== location.origin) continue;
      const name = url.href.slice(address.length).replace(/\.html(#.*)?$/, "");
      const anchor = decodeURIComponent(url.hash.slice(1));
      if (!known.has(name)) link.replaceWith(...link.childNodes);
      else link.setAttribute(key, `#${known.get(name)}${anchor && `--${anchor}`}`);
    }
  }

  // The outline is made of headings: they count from the page's level in the table of contents.
  function levels(article, level) {
    for (const heading of article.querySelectorAll("h1, h2, h3, h4, h5, h6"))
      heading.setAttribute("aria-level", Math.min(level + Number(heading.localName[1]) - 1, 6));
  }

  function section({ doc, level }, html, address, known, book) {
    const page = new DOMParser().parseFromString(html, "text/html");
    const article = page.querySelector("article.bd-article");
    const name = known.get(doc);
    sliders(article);
    answers(article);
    strip(article);
    rename(article, name);
    relink(article, doc, address, known);
    levels(article, level);
    const heading = article.querySelector("h1");
    if (heading.textContent === book) heading.textContent = "About this book";
    const element = make("section", { id: name, class: "nn-page" }, ...article.childNodes);
    return { title: heading.textContent.trim(), element };
  }

  // ---- The whole

  function cover({ title, lines, logo }) {
    const words = lines.map((line) => {
      const paragraph = make("p");
      paragraph.innerHTML = line;
      return paragraph;
    });
    const head = [make("img", { src: logo, alt: "" }), make("p", { class: "nn-title" }, title)];
    return make("section", { id: "cover", class: "nn-cover nn-page" }, ...head, ...words);
  }

  function contents(entries, pages) {
    const heading = make("h1", { "aria-level": 1 }, "Contents");
    const list = make("section", { id: "contents", class: "nn-contents nn-page" }, heading);
    entries.forEach(({ doc, level, part }, at) => {
      if (part !== entries[at - 1]?.part) list.append(make("p", { class: "nn-part" }, part));
      const link = { class: `nn-level-${level}`, href: `#${slug(doc)}` };
      list.append(make("a", link, make("span", {}, pages[at].title), numberOf(slug(doc))));
    });
    return list;
  }

  // A page's title stands at the head of each of its sheets: CSS can do that through named pages.
  function heads(pages) {
    const rules = pages.map(({ element, title }, at) => {
      element.style.page = `nn${at}`;
      return `@page nn${at} { @top-left { content: "${title.replace(/["\\]/g, "\\$&")}" } }`;
    });
    return make("style", {}, rules.join("\n"));
  }

  // The site's own style sheets; and every font, before there is anything to lay out: a font that
  // comes late lays out the whole book again.
  async function dress(root, absolute) {
    const added = (element) =>
      new Promise((onload, fail) => {
        const onerror = () => fail(new Error(`${element.href ?? element.src} could not be loaded`));
        document.head.append(Object.assign(element, { onload, onerror }));
      });
    const links = [...root.head.querySelectorAll('link[rel="stylesheet"]')];
    const sheets = links.map((link) => absolute(link.getAttribute("href")));
    await Promise.all(sheets.map((href) => added(make("link", { rel: "stylesheet", href }))));
    await Promise.all([...document.fonts].map((font) => font.load()));
  }

  function checkMaths() {
    for (const maths of document.querySelectorAll("article .math"))
      if (!maths.querySelector("math") || maths.querySelector("merror"))
        problems.push(`an equation is not set: ${maths.textContent.trim()}`);
  }

  // What is wider than the paper would be cut, or shrink every sheet: it is made to fit. All is
  // measured, then changed, then measured again, since each change lays out the whole book.
  function fit() {
    const edge = document.querySelector("article").getBoundingClientRect().right;
    const right = (element) => element.getBoundingClientRect().right;
    const candidates = "article :is(table, pre, svg, img, .nn-formula > math, dt)";
    const wide = [...document.querySelectorAll(candidates)].filter((one) => right(one) > edge + 1);
    const boxes = new Map();
    for (const element of wide) {
      const box = element.closest("table") ?? element;
      const { left, width } = box.getBoundingClientRect();
      boxes.set(box, Math.min((0.99 * (edge - left)) / width, boxes.get(box) ?? 1));
    }
    for (const [box, scale] of boxes) box.style.zoom = scale;
    for (const [box, scale] of boxes) {
      if (scale >= 0.6 && right(box) <= edge + 1) continue;
      const { id } = box.closest(".nn-page");
      problems.push(`wider than the paper: ${id}, ${box.textContent.trim().slice(0, 60)}`);
    }
  }

  async function assemble(address, entries, front) {
    const known = new Map(entries.map(({ doc }) => [doc, slug(doc)]));
    const texts = await Promise.all(
      entries.map(async ({ doc }) => {
        const answer = await fetch(`${address}${doc}.html`);
        if (!answer.ok) throw new Error(`${doc}.html: ${answer.status}`);
        return answer.text();
      }),
    );
    const root = new DOMParser().parseFromString(texts[0], "text/html");
    const absolute = (path) => new URL(path, `${address}${entries[0].doc}.html`).href;
    await dress(root, absolute);
    const pages = entries.map((entry, at) =>
      section(entry, texts[at], address, known, front.title),
    );
    document.title = front.title;
    document.head.append(heads(pages));
    const sheets = [cover(front), contents(entries, pages), ...pages.map(({ element }) => element)];
    document.querySelector("article").append(...sheets);
    for (const link of document.querySelectorAll('article a[href^="#"]'))
      if (!document.getElementById(link.getAttribute("href").slice(1)))
        problems.push(`a link leads nowhere: ${link.getAttribute("href")} (${link.textContent})`);
    checkMaths();
    await document.fonts.ready;
    fit();
    return problems;
  }

  return assemble;
})();
