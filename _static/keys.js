// Keys: ← and → (or p and n) lead to the previous and the next page, ? shows them all.
(() => {
  "use strict";

  const OFF = "nn-keys-off";
  const KEYS = [
    [["←", "p"], "previous page"],
    [["→", "n"], "next page"],
    [["→", "←"], "on a family's name: open it, close it"],
    [["↓", "↑"], "in the list of pages: one further, one back"],
    [["Ctrl K", "/"], "search"],
    [["?"], "this list"],
    [["Esc"], "close what is open"],
  ];
  const BUSY = "input, textarea, select, [contenteditable], [role=slider], dialog, pre, audio, video";

  function neighbour(kind) {
    const side = kind === "prev" ? "left" : "right";
    return document.querySelector(`head link[rel=${kind}]`)?.href ??
      document.querySelector(`.prev-next-area a.${side}-${kind}`)?.href;
  }

  function remembered() {
    try { return localStorage.getItem(OFF) === "1"; } catch { return false; }
  }

  function remember(off) {
    try { off ? localStorage.setItem(OFF, "1") : localStorage.removeItem(OFF); } catch { /* not kept */ }
  }

  function dialog() {
    const box = document.createElement("dialog");
    box.className = "nn-keys";
    box.setAttribute("aria-labelledby", "nn-keys-title");
    const rows = KEYS.map(([keys, what]) =>
      `<tr><td>${keys.map((k) => `<kbd>${k}</kbd>`).join(" or ")}</td><td>${what}</td></tr>`);
    box.innerHTML = `<h2 id="nn-keys-title">Keys</h2><table><tbody>${rows.join("")}</tbody></table>
      <label><input type="checkbox"> Use single keys on this site</label>
      <form method="dialog"><button>Close</button></form>`;
    const use = box.querySelector("input");
    use.checked = !remembered();
    use.addEventListener("change", () => remember(!use.checked));
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
    document.body.append(box);
    return box;
  }

  function help() {
    const box = document.querySelector("dialog.nn-keys") ?? dialog();
    box.showModal();
  }

  function pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.isComposing || event.target.closest?.(BUSY)) return;
    if (document.querySelector("dialog[open]") || remembered()) return;
    if (event.key === "?") return help();
    if (event.shiftKey) return;
    const kind = { ArrowLeft: "prev", p: "prev", ArrowRight: "next", n: "next" }[event.key];
    const address = kind && neighbour(kind);
    if (address) location.href = address;
  }

  // The way to the list for those who have no `?`, or have switched the keys off.
  function offer() {
    const links = document.querySelector(".nn-end .nn-links");
    if (!links) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Keyboard";
    button.addEventListener("click", help);
    links.append(" ", button);
  }

  document.addEventListener("keydown", pressed);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", offer);
  else offer();
})();
