// At a page's end: buttons that copy a citation; a report that names the section in view.
(() => {
  "use strict";

  function copying(block) {
    const text = block.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "nn-copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", block.matches("pre") ? "Copy BibTeX" : "Copy citation");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block); // the reader's own keys copy it
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.append(button);
  }

  // The last heading that stands in the upper third of the window, or above it.
  function section() {
    const headings = [...document.querySelectorAll("article :is(h2, h3)")];
    return headings.filter((h) => h.getBoundingClientRect().top < innerHeight / 3).pop();
  }

  function words(heading) {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll(".headerlink, button").forEach((e) => e.remove());
    return copy.textContent.trim();
  }

  function name(link, begun) {
    const heading = section();
    const url = new URL(begun);
    if (heading) {
      const id = heading.id || heading.closest("section[id]")?.id || "";
      const body = url.searchParams.get("body");
      url.searchParams.set("title", url.searchParams.get("title") + words(heading));
      url.searchParams.set("body", body.replace(/^Page: (.*)\nSection: .*$/m, (_, page) =>
        `Page: ${page}#${id}\nSection: ${words(heading)}`));
    }
    link.href = url;
  }

  function begin() {
    document.querySelectorAll(".nn-cite .nn-copied").forEach(copying);
    const link = document.querySelector(".nn-end .nn-report");
    const side = document.querySelector("#pst-secondary-sidebar");
    if (link && side) {
      const beside = document.createElement("p");
      beside.className = "nn-beside";
      const copy = link.cloneNode(true);
      copy.textContent = "Report an error here";
      beside.append(copy);
      [side, ...side.querySelectorAll(".sidebar-secondary-item")].pop().append(beside);
      const begun = copy.href;
      for (const kind of ["pointerenter", "pointerdown", "focus"]) {
        copy.addEventListener(kind, () => name(copy, begun));
      }
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
