// A button at every block of code that copies it.
"use strict";

const SHAPES = {
  copy: '<rect x="9" y="9" width="11" height="11" rx="2"/><path d="M5 15V6a2 2 0 0 1 2-2h9"/>',
  done: '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
};
const icon = (name) =>
  `<svg class="nn-icon" viewBox="0 0 24 24" aria-hidden="true">${SHAPES[name]}</svg>`;

/** The code as it can be run: of a session only what was typed. */
function code(block) {
  const text = block.querySelector("pre").textContent;
  if (!block.querySelector(".gp")) return text.trimEnd();
  const typed = text.split("\n").filter((line) => /^(>>>|\.\.\.)( |$)/.test(line));
  return typed.map((line) => line.slice(4)).join("\n");
}

async function copy(button, block) {
  await navigator.clipboard.writeText(code(block));
  button.innerHTML = icon("done");
  button.setAttribute("aria-label", "Copied");
  setTimeout(() => {
    button.innerHTML = icon("copy");
    button.setAttribute("aria-label", "Copy this code");
  }, 2000);
}

if (navigator.clipboard)
  for (const block of document.querySelectorAll(".bd-article div.highlight")) {
    if (block.closest(".cell_output") || !block.querySelector("pre")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copybtn";
    button.title = "Copy";
    button.setAttribute("aria-label", "Copy this code");
    button.innerHTML = icon("copy");
    button.addEventListener("click", () => copy(button, block));
    block.append(button);
  }
