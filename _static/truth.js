/* The form above the equations of a truth page: it leaves what has all the words typed. */
(() => {
  "use strict";
  const start = () => {
    const form = document.querySelector(".nn-sieve");
    if (!form) return;
    const [words, state] = form.querySelectorAll("input, select");
    const told = form.querySelector("output");
    const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
    const proofs = [...document.querySelectorAll(".nn-proof")].map((box) => {
      const section = box.closest("section");
      const text = [...box.querySelectorAll(":scope > p, :scope > ul")].map((e) => e.textContent);
      const title = section.querySelector("h2")?.textContent ?? "";
      return { box, section, text: plain([title, box.id, ...text].join(" ")) };
    });
    const sections = new Set(proofs.map(({ section }) => section));

    const sift = () => {
      const wanted = plain(words.value).split(/\s+/).filter(Boolean);
      const kept = proofs.filter(({ box, text }) => {
        const fits =
          wanted.every((word) => text.includes(word)) &&
          (!state.value || box.dataset.state === state.value);
        box.hidden = !fits;
        return fits;
      });
      for (const section of sections) section.hidden = !kept.some((proof) => proof.section === section);
      const count = kept.length === 1 ? "1 equation" : `${kept.length || "no"} equations`;
      told.textContent = kept.length < proofs.length ? `${count} of ${proofs.length}` : count;
    };
    /** Keep the address in step, so that what was found can be passed on. */
    const note = () => {
      const address = new URL(location.href);
      for (const [key, value] of [["find", words.value.trim()], ["show", state.value]])
        if (value) address.searchParams.set(key, value);
        else address.searchParams.delete(key);
      history.replaceState(history.state, "", address);
    };
    form.addEventListener("input", () => (sift(), note()));
    form.addEventListener("submit", (event) => event.preventDefault());
    words.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !words.value) return;
      words.value = "";
      event.preventDefault();
      sift();
      note();
    });
    /** A link to an equation that is sifted out shows all again. */
    const reveal = () => {
      if (!location.hash) return;
      const box = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!box?.closest("[hidden]")) return;
      words.value = state.value = "";
      sift();
      note();
      box.scrollIntoView();
    };
    addEventListener("hashchange", reveal);

    const asked = new URL(location.href).searchParams;
    words.value = asked.get("find") ?? "";
    state.value = asked.get("show") ?? "";
    if (words.value || state.value) sift();
    reveal();
  };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
