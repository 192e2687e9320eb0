/* Sliders: a range input shows one of its figure's frames, of which all but the first wait in
   templates until they are asked for. pipeline/site/sliders.py writes the markup. */
(() => {
  "use strict";

  const slider = (figure) => {
    const range = figure.querySelector("input[type=range]");
    const told = figure.querySelector("output");
    const button = figure.querySelector("button");
    const frames = [...figure.querySelectorAll(".nn-frame")];
    const name = figure.querySelector("label").textContent;
    const last = frames.length - 1;
    let at = 0;
    let timer = 0;

    const unpacked = (template) => {
      const frame = document.createElement("div");
      frame.className = template.className;
      frame.dataset.value = template.dataset.value;
      frame.append(template.content);
      template.replaceWith(frame);
      return frame;
    };

    const show = (next) => {
      frames[at].hidden = true;
      if (frames[next].content) frames[next] = unpacked(frames[next]);
      frames[next].hidden = false;
      at = next;
      range.value = at;
      range.style.setProperty("--nn-at", at);
      told.value = frames[at].dataset.value;
      range.setAttribute("aria-valuetext", told.value);
    };

    const playing = (now) => {
      clearInterval(timer);
      timer = now ? setInterval(step, Number(figure.dataset.interval)) : 0;
      figure.toggleAttribute("data-playing", now);
      button.setAttribute("aria-label", `${now ? "Pause" : "Play"}: ${name}`);
    };

    const step = () => {
      show(at + 1);
      if (at === last) playing(false);
    };

    button.addEventListener("click", () => {
      if (timer) return playing(false);
      playing(true);
      if (at === last) show(0);
      else step();
    });
    range.addEventListener("pointerdown", () => playing(false));
    range.addEventListener("input", () => {
      playing(false);
      show(Number(range.value));
    });
    show(Number(range.value)); // it may have been moved before this script ran
  };

  const start = () => document.querySelectorAll("figure.nn-slider").forEach(slider);
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
