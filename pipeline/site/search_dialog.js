// The dialog of the search, and the same list within search.html; loaded when one is opened.

import { find } from "./find.js";

const SITE = new URL("..", import.meta.url);
const KINDS = {
  chapter: "Chapter", section: "Section", term: "Glossary", api: "API", equations: "Equations",
  page: "Page",
};
const HINT = "A model, a term, a function of the library. Several words narrow it down.";

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

/** The list of results below an input that is a combobox. */
class Results {
  constructor(input, id) {
    this.input = input;
    this.asked = 0;
    this.status = make("p", { class: "nn-search-status", role: "status" }, HINT);
    this.list = make("div", { class: "nn-search-list", id, role: "listbox" });
    this.list.setAttribute("aria-label", "Results");
    this.list.tabIndex = -1;
    const told = {
      role: "combobox", "aria-controls": id, "aria-expanded": "false", "aria-autocomplete": "list",
    };
    for (const [name, value] of Object.entries(told)) input.setAttribute(name, value);
    input.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.ask(), 120);
    });
    input.addEventListener("keydown", (event) => this.key(event));
  }

  get options() {
    return [...this.list.querySelectorAll("[role=option]")];
  }

  async ask() {
    const query = this.input.value.trim(), turn = ++this.asked;
    if (!query) return this.show(null);
    try {
      const found = await find(query);
      if (turn === this.asked) this.show(found, query);
    } catch (error) {
      this.list.replaceChildren();
      this.status.textContent = "The index could not be read. Is the page served, not a file?";
      console.warn(error);
    }
  }

  show(found, query) {
    const pages = found?.pages ?? [];
    this.list.replaceChildren(...pages.map((page, at) => this.group(page, at, found.words)));
    this.input.setAttribute("aria-expanded", String(pages.length > 0));
    this.choose(pages.length ? 0 : -1);
    this.list.scrollTop = 0;
    this.status.replaceChildren(...(found ? this.told(found, pages, query) : [HINT]));
  }

  told(found, pages, query) {
    const count = pages.reduce((sum, { sections }) => sum + sections.length, 0);
    const number = pages.length
      ? `${count} ${count === 1 ? "result" : "results"} on ` +
        `${pages.length} ${pages.length === 1 ? "page" : "pages"}`
      : `Nothing was found for “${query}”`;
    if (!found.corrected) return [number + "."];
    const button = make("button", { type: "button" }, found.corrected);
    button.addEventListener("click", () => {
      this.input.value = found.corrected;
      this.input.focus();
      this.ask();
    });
    return [`“${query}” is not in the book. Did you mean `, button, `? ${number}.`];
  }

  group({ page, title, sections }, at, words) {
    const name = `${this.list.id}-${at}`;
    const kind = sections.find(({ anchor }) => !anchor)?.kind ?? sections[0].kind;
    const shown = kind === "section" ? "chapter" : kind;
    const head = make("div", { class: "nn-search-page", id: name }, title,
      make("span", { class: "nn-search-kind" }, KINDS[shown]));
    const options = sections.map((section, i) => {
      const link = make("a", { role: "option", id: `${name}-${i}`, tabindex: -1 });
      link.href = address(page, section.anchor, words);
      const excerpt = make("span", { class: "nn-search-excerpt" });
      // Of our own pages, and escaped by Pagefind; it may begin within a sentence.
      excerpt.innerHTML = (/^(<mark>)?\p{Ll}/u.test(section.excerpt) ? "… " : "") + section.excerpt;
      link.append(make("span", { class: "nn-search-title" },
        section.anchor ? section.title : "From the beginning"), excerpt);
      link.addEventListener("mousemove", () => this.choose(this.options.indexOf(link), false));
      return link;
    });
    return make("div", { role: "group", "aria-labelledby": name, class: "nn-search-group" },
      head, ...options);
  }

  choose(at, scroll = true) {
    const options = this.options;
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
    const chosen = options[at];
    this.chosen = at;
    if (!chosen) return this.input.removeAttribute("aria-activedescendant");
    this.input.setAttribute("aria-activedescendant", chosen.id);
    if (scroll) chosen.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], count = this.options.length;
    if (step && count) this.choose((this.chosen + step + count) % count);
    else if (event.key === "Enter") this.options[this.chosen]?.click();
    else return;
    event.preventDefault();
  }
}

function address(page, anchor, words) {
  const url = new URL(page, SITE);
  url.searchParams.set("marks", words.join(" "));
  if (anchor) url.hash = anchor;
  return url.href;
}

let dialog;

/** Open the dialog, made at the first time. */
export function open() {
  dialog ??= build();
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("input").select();
}

function build() {
  const input = make("input", {
    type: "text", name: "q", "aria-label": "Search the book", placeholder: "Search the book",
    autocomplete: "off", autocapitalize: "off", spellcheck: "false", enterkeyhint: "go",
  });
  const results = new Results(input, "nn-search-results");
  const close = make("button", { type: "button", class: "nn-search-close" }, "Close");
  const made = make("dialog", { class: "nn-search", "aria-label": "Search" },
    make("div", { class: "nn-search-head" }, input, close), results.status, results.list,
    make("p", { class: "nn-search-keys", "aria-hidden": "true" },
      "↑ ↓ to choose · Enter to open · Esc to close"));
  close.addEventListener("click", () => made.close());
  made.addEventListener("click", (event) => event.target === made && made.close());
  document.body.append(made);
  return made;
}

/** Show the results on search.html, whose address may hold the words. */
export function here(form, box) {
  const input = form.querySelector("input");
  const results = new Results(input, "nn-search-page-results");
  box.append(results.status, results.list);
  form.addEventListener("submit", (event) => event.preventDefault());
  input.value = new URLSearchParams(location.search).get("q") ?? input.value;
  input.focus();
  results.ask();
}
