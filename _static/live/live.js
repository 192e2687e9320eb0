// Live models, loaded at the first touch of one: inputs, how a model is run, outputs, the engine.
// The parts have the names, and do the work, of nnlib/live/inputs, runs.py and outputs.py.
self.nnLive ??= (() => {
  "use strict";

  // ---------------------------------------------------------------- small things

  const SIGNS = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  const safe = (text) => String(text).replace(/[&<>"]/g, (sign) => SIGNS[sign]);
  const visible = (letter) => ({ " ": "␣", "\n": "⏎" })[letter] ?? letter;
  const percent = (share) =>
    `${share >= 0.00995 || share < 0.0005 ? Math.round(100 * share) : (100 * share).toFixed(1)} %`;
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const some = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const filled = (words, values) => words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const bytes = (text) =>
    Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const floats = (data, dims) => ({ type: "float32", data: Float32Array.from(data), dims });
  const whole = (data, dims) => ({ type: "int64", data: BigInt64Array.from(data, BigInt), dims });

  function softmax(row, temperature = 1) {
    const largest = Math.max(...row);
    const raised = Array.from(row, (z) => Math.exp((z - largest) / temperature));
    const sum = raised.reduce((a, b) => a + b, 0);
    return raised.map((value) => value / sum);
  }

  const argmax = (row) => row.reduce((best, value, at) => (value > row[best] ? at : best), 0);

  /** Return what is drawn from: shares at a temperature, of which the fewest that reach top-p stay. */
  function drawnFrom(row, temperature, topP = 1) {
    if (temperature <= 0) return row.map((_, at) => Number(at === argmax(row)));
    const shares = softmax(row, temperature);
    if (topP >= 1) return shares;
    let before = 0;
    const order = shares.map((_, at) => at).sort((a, b) => shares[b] - shares[a] || a - b);
    for (const at of order) {
      const share = shares[at];
      if (before >= topP) shares[at] = 0;
      before += share;
    }
    const sum = shares.reduce((a, b) => a + b, 0);
    return shares.map((share) => share / sum);
  }

  function drawn(row, ...rule) {
    let left = Math.random();
    const at = drawnFrom(row, ...rule).findIndex((share) => (left -= share) < 0);
    return at < 0 ? argmax(row) : at;
  }

  /** Return a row of a tensor: the one that is asked for, where it has several. */
  function rowOf(tensor, context) {
    const width = tensor.dims.at(-1);
    const rows = tensor.data.length / width;
    const at = rows > 1 ? context.row ?? context.place ?? 0 : 0;
    return Array.from(tensor.data.slice(at * width, (at + 1) * width), Number);
  }

  // ---------------------------------------------------------------- drawings, as nnlib/live/drawing.py

  function pixels(values, rows, columns, label) {
    const levels = new Map();
    values.forEach((value, at) => {
      const level = Math.round(16 * clamp(value, 0, 1));
      if (!level) return;
      const square = `M${at % columns} ${Math.floor(at / columns)}h1v1h-1z`;
      levels.set(level, (levels.get(level) ?? "") + square);
    });
    const inks = [...levels].map(([level, d]) => `<path fill-opacity="${level / 16}" d="${d}"/>`);
    return `<svg class="nn-pixels" viewBox="0 0 ${columns} ${rows}" role="img" ` +
      `aria-label="${safe(label)}" shape-rendering="crispEdges">${inks.join("")}</svg>`;
  }

  const WIDE = 12, HIGH = 15, EDGE = 18;

  /** Draw a map; `most` rows keep their room, also those that are not written yet. */
  function heat(weights, rows, columns, most = rows.length) {
    const parts = columns.map((letter, x) =>
      `<text x="${EDGE + WIDE * (x + 0.5)}" y="${EDGE - 6}">${safe(visible(letter))}</text>`);
    rows.forEach((letter, y) => {
      parts.push(`<text x="8" y="${EDGE + HIGH * (y + 0.8)}">${safe(visible(letter))}</text>`);
      columns.forEach((_, x) => {
        const weight = weights(y, x);
        if (weight >= 0.03)
          parts.push(`<rect x="${EDGE + WIDE * x}" y="${EDGE + HIGH * y}" width="${WIDE}" ` +
            `height="${HIGH}" fill-opacity="${weight.toFixed(2)}"/>`);
      });
    });
    const width = EDGE + WIDE * columns.length, height = EDGE + HIGH * most;
    return `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" ` +
      `aria-label="Where it looks: ${rows.length} written rows, ${columns.length} read columns">` +
      `${parts.join("")}</svg>`;
  }

  function curve(values, label) {
    const low = Math.min(...values), high = Math.max(...values);
    const last = Math.max(1, values.length - 1);
    const points = values.map((value, at) =>
      `${((300 * at) / last).toFixed(1)},${(100 - (100 * (value - low)) / (high - low || 1)).toFixed(1)}`);
    const number = (value) => String(Number(value.toPrecision(3)));
    return `<svg viewBox="-4 -4 308 108" role="img" aria-label="${safe(label)}">` +
      `<polyline points="${points.join(" ")}"/></svg>` +
      `<span>${safe(label)}: ${number(low)} to ${number(high)}</span>`;
  }

  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  /** Return a token's letters, or its bytes where they are no whole letters. */
  function spelled(token) {
    try {
      return [...decoder.decode(Uint8Array.from(token))].map(visible).join("");
    } catch {
      return `‹${token.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}›`;
    }
  }

  // ---------------------------------------------------------------- outputs

  const outputs = {
    bars: (place, config) => ({
      show(answers, context) {
        const row = rowOf(answers[config.of], context);
        const shares = context.drawnFrom ? drawnFrom(row, ...context.drawnFrom)
          : config.softmax ? softmax(row) : row;
        const best = argmax(shares);
        let order = shares.map((_, at) => at);
        if (config.top !== null)
          order = order.sort((a, b) => shares[b] - shares[a] || a - b).slice(0, config.top);
        place.innerHTML = order.map((at) =>
          `<li${at === best ? " data-best" : ""} style="--v:${shares[at].toFixed(4)}">` +
          `<b>${safe(visible(config.names[at]))}</b><i></i>` +
          `<span>${percent(shares[at])}</span></li>`).join("");
        return `${visible(config.names[best])}, ${percent(shares[best])}`;
      },
    }),
    text: (place, config) => ({
      show(answers, context) {
        const made = context.made ?? "";
        if (config.fill) {
          const tensor = answers[config.of];
          const guess = (at) =>
            config.fill[argmax(rowOf(tensor, { row: at + (context.front ?? 0) }))];
          const letters = [...context.given];
          const all = letters.map((letter, at) => (letter === context.blank ? guess(at) : letter));
          place.innerHTML = letters.map((letter, at) =>
            letter === context.blank ? `<mark>${safe(all[at])}</mark>` : safe(letter)).join("");
          return all.join("");
        }
        const before = config.joined ? safe(context.given ?? "") : "";
        place.innerHTML = `${before}<mark>${safe(made)}</mark>`.replace(/\n/g, "<br>");
        return made;
      },
    }),
    picture: (place, config) => ({
      show(answers) {
        const [rows, columns] = config.shape;
        const scaled = Array.from(answers[config.of].data, (value) =>
          (value - config.low) / (config.high - config.low));
        place.innerHTML = pixels(scaled, rows, columns, config.label || "The model's picture");
        return "";
      },
    }),
    heat: (place, config) => ({
      show(answers, context) {
        const tensor = answers[config.of];
        const width = tensor.dims.at(-1);
        place.innerHTML = heat((y, x) => tensor.data[y * width + x],
          [...(context.made ?? "")], [...context.given], context.most);
        return "";
      },
    }),
    numbers: (place, config) => ({
      show(answers) {
        const told = config.names.map((name, at) =>
          [name, Number(answers[config.of].data[at]).toFixed(config.digits)]);
        place.innerHTML = told.map(([name, value]) =>
          `<li><b>${safe(name)}</b><span>${value}</span></li>`).join("");
        return told.map(([name, value]) => `${name} ${value}`).join(", ");
      },
    }),
    pieces: (place, config) => ({
      show(_, context) {
        const tokens = context.cuts[config.of];
        const size = tokens.reduce((sum, token) => sum + token.length, 0) / tokens.length;
        const told = `${some(tokens.length, "token")}, ${size.toFixed(1)} bytes each`;
        place.innerHTML = `<p>${tokens.map((token) => `<b>${safe(spelled(token))}</b>`).join("")}` +
          `</p><small>${told}</small>`;
        return `${config.label}: ${some(tokens.length, "token")}`;
      },
    }),
    curve: (place, config) => {
      let past = [];
      return {
        show(answers, context) {
          const now = Array.from(answers[config.of].data, Number);
          past = config.trail && !context.fresh ? [...past, ...now].slice(-config.trail) : now;
          place.innerHTML = curve(past, config.label || "output");
          return "";
        },
      };
    },
  };

  // ---------------------------------------------------------------- inputs

  /** Let a finger, a pen or the mouse draw on an element; `at` gets places from 0 to 1. */
  function drawing(element, at) {
    let down = false;
    const place = (event) => {
      const box = element.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    const handle = (event) => {
      if (event.type === "pointerdown" && event.button > 0) return;
      if (event.type === "pointerdown") {
        down = true;
        try { element.setPointerCapture(event.pointerId); } catch { /* a replayed event */ }
        at(...place(event), true);
      } else if (event.type === "pointermove" && down)
        for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event])
          at(...place(one), false);
      else if (event.type !== "pointermove") down = false;
    };
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
      element.addEventListener(kind, handle);
    return handle;
  }

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const inputs = {
    pad(root, config, changed) {
      const { size } = config;
      const canvas = root.querySelector("canvas");
      const seen = root.querySelector(".nn-seen");
      const shift = root.querySelector("[data-do=shift]");
      const pen = canvas.getContext("2d");
      let strokes = [], example = null, cursor = null, last = null;

      function lines(context, scale, map) {
        context.lineCap = context.lineJoin = "round";
        for (const stroke of strokes) {
          context.beginPath();
          stroke.forEach((point, at) => {
            const [x, y] = map(point);
            if (at) context.lineTo(x * scale, y * scale);
            else context.moveTo(x * scale, y * scale), context.lineTo(x * scale + 0.01, y * scale);
          });
          context.stroke();
        }
      }

      /** Return what was drawn as grey values: scaled to the model's box, centred, one pen. */
      function grey() {
        if (example) return example;
        if (!strokes.length) return null;
        const all = strokes.flat();
        const [left, top] = [0, 1].map((k) => Math.min(...all.map((point) => point[k])));
        const [right, bottom] = [0, 1].map((k) => Math.max(...all.map((point) => point[k])));
        const [high, wide] = config.box.map((side) => side - config.pen);
        const across = Math.max(right - left, 0.15), down = Math.max(bottom - top, 0.15);
        // As high as the box; what is too broad for it is squeezed so far, and then lower.
        const upright = Math.min(high / down, (config.squeeze * wide) / across);
        const scales = [Math.min(upright, wide / across), upright];
        const centre = [(left + right) / 2, (top + bottom) / 2];
        const fine = 8;
        const sheet = Object.assign(document.createElement("canvas"),
          { width: size * fine, height: size * fine });
        const context = sheet.getContext("2d", { willReadFrequently: true });
        context.lineWidth = config.pen * fine;
        lines(context, fine, (point) =>
          scales.map((scale, k) => size / 2 + scale * (point[k] - centre[k])));
        const ink = context.getImageData(0, 0, size * fine, size * fine).data;
        const values = new Array(size * size).fill(0);
        for (let y = 0; y < size * fine; y++)
          for (let x = 0; x < size * fine; x++)
            values[Math.floor(y / fine) * size + Math.floor(x / fine)] +=
              ink[4 * (y * size * fine + x) + 3] / 255 / fine ** 2;
        return values;
      }

      function shifted(values) {
        const by = Number(shift.value);
        return values.map((_, at) => {
          const x = (at % size) - by;
          return x < 0 || x >= size ? 0 : values[at - by];
        });
      }

      function draw() {
        const side = canvas.width, cell = side / size;
        const ink = getComputedStyle(canvas).color;
        pen.clearRect(0, 0, side, side);
        pen.fillStyle = pen.strokeStyle = ink;
        if (example)
          example.forEach((value, at) => {
            pen.globalAlpha = value;
            pen.fillRect((at % size) * cell, Math.floor(at / size) * cell, cell, cell);
          });
        pen.globalAlpha = 1;
        pen.lineWidth = 18;
        lines(pen, side, (point) => point);
        if (cursor) {
          pen.lineWidth = 3;
          pen.strokeRect(cursor[0] * cell + 1.5, cursor[1] * cell + 1.5, cell - 3, cell - 3);
        }
        shift.closest("label").querySelector("output").value = shift.value;
        const values = grey();
        seen.querySelector("svg").outerHTML = pixels(values ? shifted(values) : [], size, size,
          `What the model sees: ${size} × ${size} grey values`);
      }

      const begin = () => { if (example) example = null, strokes = []; };
      const handle = drawing(canvas, (x, y, first) => {
        begin();
        if (first || !strokes.length) strokes.push([]);
        strokes.at(-1).push([clamp(x, 0, 1), clamp(y, 0, 1)]);
        draw();
        changed();
      });
      const middle = () => cursor.map((k) => (k + 0.5) / size);
      canvas.addEventListener("keydown", (event) => {
        const step = STEPS[event.key];
        if (!step && event.key !== " ") return;
        event.preventDefault();
        cursor ??= [Math.floor(size / 2), Math.floor(size / 2)];
        if (step) cursor = cursor.map((k, axis) => clamp(k + step[axis], 0, size - 1));
        if (event.key === " " || event.shiftKey) {
          begin();
          if (event.shiftKey && step && last && strokes.length) strokes.at(-1).push(middle());
          else strokes.push([middle()]);
          last = cursor;
          changed();
        }
        draw();
      });
      canvas.addEventListener("blur", () => { cursor = null; draw(); });
      root.querySelector("[data-do=clear]").addEventListener("click", () => {
        strokes = [], example = null;
        draw();
        changed();
      });
      shift.addEventListener("input", () => { draw(); changed(); });
      new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
      return {
        set(value) { strokes = [], example = value, draw(); },
        replay: handle,
        redraw: draw,
        read() {
          const values = grey();
          if (!values) return { error: "The square is empty: draw something." };
          return { feed: [floats(shifted(values), config.shape)] };
        },
      };
    },

    damage(root, config, changed) {
      const [rows, columns] = config.shape;
      const box = root.querySelector(".nn-damage");
      const choice = root.querySelector("select");
      const cells = rows * columns;
      let state = [], given = [], cursor = null, fresh = true;
      let wiped = new Set(), other = false; // what was done since the model was last asked
      const draw = () => {
        box.innerHTML = pixels(state.slice(0, cells), rows, columns, config.label);
        if (cursor)
          box.firstChild.insertAdjacentHTML("beforeend", `<rect class="nn-cursor" x="${cursor[0]}" ` +
            `y="${cursor[1]}" width="1" height="1"/>`);
      };
      const wipe = (x, y) => {
        const reach = Math.max(0.6, Math.max(rows, columns) / 12); // a pixel at least
        for (let at = 0; at < cells; at++)
          if (Math.hypot((at % columns) + 0.5 - x * columns,
            Math.floor(at / columns) + 0.5 - y * rows) <= reach) wiped.add(at);
        state = state.map((value, at) => (wiped.has(at % cells) ? config.to : value));
        draw();
        changed();
      };
      const handle = drawing(box, wipe);
      box.addEventListener("keydown", (event) => {
        const step = STEPS[event.key];
        if (!step && event.key !== " ") return;
        event.preventDefault();
        cursor ??= [Math.floor(columns / 2), Math.floor(rows / 2)];
        if (step)
          cursor = [clamp(cursor[0] + step[0], 0, columns - 1), clamp(cursor[1] + step[1], 0, rows - 1)];
        if (event.key === " ") wipe((cursor[0] + 0.5) / columns, (cursor[1] + 0.5) / rows);
        else draw();
      });
      root.querySelector("[data-do=whole]").addEventListener("click", () => {
        state = given;
        other = true;
        draw();
        changed();
      });
      choice?.addEventListener("change", () => { fresh = true; changed(); });
      return {
        set(value) {
          if (choice && !Array.isArray(value)) choice.value = value.choice;
          state = given = Array.from(value.picture ?? value);
          fresh = other = true;
          draw();
        },
        put(values) {
          if (other) return; // a picture was chosen while the model was at work
          state = Array.from(values, (value, at) => (wiped.has(at % cells) ? config.to : Number(value)));
          draw();
        },
        replay: handle,
        read() {
          const feed = [floats(state, config.feed)];
          if (choice)
            feed.push(floats(Array.from({ length: config.choices }, (_, at) =>
              Number(at === Number(choice.value))), [1, config.choices]));
          const reading = { feed, fresh };
          fresh = other = false;
          wiped = new Set();
          return reading;
        },
      };
    },

    cart(root, config, changed) {
      const box = root.querySelector(".nn-cart");
      const [body, pole] = ["g", "line"].map((name) => box.querySelector(name));
      let state = [0, 0, 0, 0], late = 0; // late: pushes since the model was last asked
      const draw = () => {
        const [x, , angle] = state;
        body.setAttribute("transform", `translate(${x.toFixed(3)} 0)`);
        pole.setAttribute("x2", Math.sin(angle).toFixed(3));
        pole.setAttribute("y2", (-Math.cos(angle)).toFixed(3));
      };
      const push = (way) => {
        late += way * config.push;
        state[3] += way * config.push;
        changed();
      };
      const handle = drawing(box, (across, _, first) => {
        if (first) push(5.4 * across - 2.7 < state[0] + Math.sin(state[2]) ? 1 : -1);
      });
      box.addEventListener("keydown", (event) => {
        const way = STEPS[event.key]?.[0];
        if (!way) return;
        event.preventDefault();
        push(way);
      });
      ["left", "right"].forEach((name, at) => root.querySelector(`[data-do=${name}]`)
        .addEventListener("click", () => push(2 * at - 1)));
      return {
        set(value) { state = Array.from(value); draw(); },
        put(values) {
          state = Array.from(values, Number);
          state[3] += late;
          draw();
        },
        replay: handle,
        runs: true,
        read() {
          late = 0;
          return { feed: [floats(state, [1, 4])] };
        },
      };
    },

    links(root, config, changed) {
      const svg = root.querySelector(".nn-links svg");
      const buttons = [...root.querySelectorAll("[data-node]")];
      const { names } = config;
      const pair = (one, other) => (one < other ? `${one} ${other}` : `${other} ${one}`);
      const turn = (at) => (2 * Math.PI * at) / names.length;
      const places = names.map((_, at) => [Math.sin(turn(at)), -Math.cos(turn(at))]);
      const ends = () => [...joined].map((both) => both.split(" ").map(Number));
      let joined = new Set(), chosen = null;
      const draw = () => {
        const lines = ends().map(([one, other]) => {
          const [[x1, y1], [x2, y2]] = [places[one], places[other]];
          return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`;
        });
        const dots = places.map(([x, y], at) =>
          `<circle cx="${x}" cy="${y}" r=".17"${at === chosen ? ' class="nn-chosen"' : ""}/>` +
          `<text x="${x}" y="${y}">${safe(names[at])}</text>`);
        svg.innerHTML = lines.join("") + dots.join("");
        buttons.forEach((button, at) => button.setAttribute("aria-pressed", at === chosen));
      };
      const pick = (at) => {
        const before = chosen;
        chosen = before === null ? at : null;
        if (before !== null && before !== at) {
          const both = pair(before, at);
          if (!joined.delete(both)) joined.add(both);
          changed();
        }
        draw();
      };
      buttons.forEach((button, at) => button.addEventListener("click", () => pick(at)));
      const handle = drawing(svg, (across, down, first) => {
        const far = places.map(([x, y]) =>
          Math.hypot(2.6 * across - 1.3 - x, 2.6 * down - 1.3 - y));
        const near = far.indexOf(Math.min(...far));
        if (first && far[near] < 0.4) pick(near);
      });
      return {
        set(value) {
          joined = new Set(value.map(([one, other]) => pair(one, other)));
          chosen = null;
          draw();
        },
        replay: handle,
        read() {
          const matrix = new Float32Array(names.length ** 2);
          for (const [one, other] of ends())
            matrix[one * names.length + other] = matrix[other * names.length + one] = 1;
          const letters = names.join("");
          return { feed: [floats(matrix, [names.length, names.length])], given: letters,
                   made: letters };
        },
      };
    },

    text(root, config, changed) {
      const field = root.querySelector("input[type=text]");
      const choice = root.querySelector("select");
      const row = root.querySelector(".nn-letters");
      const number = new Map((config.letters ?? []).map((letter, at) => [letter, at]));
      number.delete("");
      let original = field.value;

      function letters() {
        if (!row) return;
        const kept = row.contains(document.activeElement)
          ? [...row.children].indexOf(document.activeElement) : -1;
        row.innerHTML = [...field.value].slice(0, config.length).map((letter) => {
          const gone = letter === config.blank;
          const name = gone ? "A blank: show the letter" : `Blank ${visible(letter)}`;
          return `<button type="button" aria-pressed="${gone}" aria-label="${safe(name)}">` +
            `${safe(gone ? config.blank : visible(letter))}</button>`;
        }).join("");
        row.children[kept]?.focus();
      }

      row?.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (!button) return;
        const at = [...row.children].indexOf(button);
        const text = [...field.value], before = [...original];
        text[at] = text[at] === config.blank ? before[at] ?? config.blank : config.blank;
        field.value = text.join("");
        letters();
        changed();
      });
      field.addEventListener("input", () => {
        const before = [...original];
        original = [...field.value].map((letter, at) =>
          letter === config.blank ? before[at] ?? letter : letter).join("");
        letters();
        changed();
      });
      choice?.addEventListener("change", changed);
      return {
        set({ begin, text }) {
          field.value = original = text;
          if (choice) choice.value = begin;
          letters();
        },
        redraw: letters,
        read() {
          const words = config.words;
          let text = field.value.normalize("NFC");
          if (config.case === "upper") text = text.toUpperCase();
          if (config.case === "lower") text = text.toLowerCase();
          for (const [typed, known] of config.replaced) text = text.replaceAll(typed, known);
          const all = [...text], notes = [];
          if (config.letters === null) {
            if (all.length < config.least) return { error: words.nothing };
            const kept = config.keep === "first" ? all.slice(0, config.length) : all.slice(-config.length);
            const note = all.length > config.length ? filled(words[config.keep], { length: config.length }) : "";
            return { feed: [], given: kept.join(""), note };
          }
          const unknown = [...new Set(all.filter((letter) => !number.has(letter)))].sort();
          if (unknown.length)
            notes.push(filled(words.unknown,
              { letters: unknown.slice(0, 6).map((letter) => `“${visible(letter)}”`).join(", ") }));
          let known = all.filter((letter) => number.has(letter));
          const front = [...(choice ? [config.begins[choice.value]] : []), ...config.before];
          const room = config.length - front.length;
          if (known.length > room) {
            notes.push(filled(words[config.keep], { length: room }));
            known = config.keep === "first" ? known.slice(0, room) : known.slice(-room);
          }
          if (known.filter((letter) => letter.trim()).length < config.least) return { error: [...notes, words.nothing].join(" ") };
          let place = null;
          if (config.blank) {
            if (!known.includes(config.blank))
              return { error: filled(words.blank, { blank: `“${config.blank}”` }) };
            place = front.length + known.indexOf(config.blank);
          }
          const ids = [...front, ...known.map((letter) => number.get(letter))];
          const count = ids.length;
          const row = [...ids];
          while (config.pad !== null && row.length < config.length) row.push(config.pad);
          return {
            feed: [whole(row, [1, row.length])], ids, count, place, front: front.length,
            given: known.join(""), note: notes.join(" "), blank: config.blank,
          };
        },
      };
    },

    sliders(root, config, changed) {
      const ranges = [...root.querySelectorAll(".nn-slide > input")].slice(0, config.count);
      const tell = (range) => {
        range.closest("label").querySelector("output").value = range.value;
      };
      for (const range of ranges)
        range.addEventListener("input", () => { tell(range); changed(); });
      return {
        set(values) { ranges.forEach((range, at) => { range.value = values[at]; tell(range); }); },
        redraw: () => ranges.forEach(tell),
        read: () => ({ feed: [floats(ranges.map((range) => Number(range.value)), [1, ranges.length])] }),
      };
    },

    point(root, config, changed) {
      const svg = root.querySelector(".nn-pull > svg");
      const mark = svg.querySelector(".nn-point");
      const { reach, step } = config;
      let at = [0, 0], held = false;

      function put(x, y) {
        at = [clamp(x, -reach, reach), clamp(y, -reach, reach)];
        const [across, up] = at.map((number) => (100 * number) / reach);
        mark.setAttribute("transform", `translate(${across.toFixed(1)} ${(-up).toFixed(1)})`);
        mark.setAttribute("aria-label", `${config.words}, at ${at[0].toFixed(2)}, ${at[1].toFixed(2)}`);
      }
      function handle(event) {
        if (event.type === "pointerdown") {
          held = true;
          try { svg.setPointerCapture(event.pointerId); } catch { /* replayed */ }
        } else if (event.type === "pointerup" || event.type === "pointercancel") {
          held = false;
          return;
        } else if (!held) return;
        const inverse = svg.getScreenCTM().inverse();
        const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
        put((reach * x) / 100, (-reach * y) / 100);
        changed();
      }
      for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
        svg.addEventListener(kind, handle);
      svg.addEventListener("keydown", (event) => {
        const way = STEPS[event.key];
        if (!way) return;
        event.preventDefault();
        put(at[0] + step * way[0], at[1] - step * way[1]);
        changed();
      });
      return {
        set([x, y]) { put(x, y); },
        replay: handle,
        read: () => ({ feed: [floats(at, [1, 2])] }),
      };
    },

    plane(root, config, changed) {
      const svg = root.querySelector(".nn-plane > svg");
      const line = svg.querySelector(".nn-line");
      let points = [], held = -1, moved = false;
      const marks = () => [...svg.querySelectorAll(".nn-point")];

      // A mark that is there stays: one that is taken away loses the focus, and the finger on it.
      function build() {
        marks().slice(points.length).forEach((mark) => mark.remove());
        svg.insertAdjacentHTML("beforeend",
          '<g class="nn-point" tabindex="0" role="button"></g>'.repeat(points.length - marks().length));
        points.forEach((_, at) => draw(at));
      }
      function draw(at) {
        const [x, y, kind] = points[at];
        const mark = marks()[at];
        const drawn = mark.firstChild && mark.dataset.kind === String(kind);
        mark.dataset.kind = kind;
        mark.setAttribute("transform", `translate(${(100 * x).toFixed(1)} ${(-100 * y).toFixed(1)})`);
        mark.setAttribute("aria-label",
          `Point ${at + 1}, ${config.classes[kind]}, at ${x.toFixed(2)}, ${y.toFixed(2)}`);
        if (!drawn) mark.innerHTML = '<circle class="nn-reach" r="20"/>' +
          (kind ? '<rect x="-7" y="-7" width="14" height="14"/>' : '<circle r="8"/>');
      }
      function place(event) {
        const inverse = svg.getScreenCTM().inverse();
        const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
        return [clamp(x / 100, -1, 1), clamp(-y / 100, -1, 1)];
      }
      function move(at, x, y) {
        points[at] = [x, y, points[at][2]];
        draw(at);
        changed();
      }
      function turn(at) {
        points[at] = [points[at][0], points[at][1], 1 - points[at][2]];
        draw(at);
        changed();
      }
      const nearest = (x, y) => points.map((p) => Math.hypot(p[0] - x, p[1] - y))
        .reduce((best, away, at, all) => (away < all[best] ? at : best), 0);
      let from = null;
      const handle = (event) => {
        if (event.type === "pointerdown") {
          const mark = event.target.closest?.(".nn-point");
          held = mark ? marks().indexOf(mark) : -1;
          if (mark && held < 0) held = nearest(...place(event)); // touched before this script came
          moved = false;
          from = [event.clientX, event.clientY];
          if (held >= 0) try { svg.setPointerCapture(event.pointerId); } catch { /* replayed */ }
        } else if (held < 0) return;
        else if (event.type === "pointermove") {
          moved ||= Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 4;
          if (moved) move(held, ...place(event));
        } else {
          if (!moved && event.type === "pointerup") turn(held);
          held = -1;
        }
      };
      for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
        svg.addEventListener(kind, handle);
      svg.addEventListener("keydown", (event) => {
        const at = marks().indexOf(event.target.closest(".nn-point"));
        if (at < 0) return;
        const step = STEPS[event.key];
        if (!step && event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        if (step) move(at, clamp(points[at][0] + 0.05 * step[0], -1, 1),
          clamp(points[at][1] - 0.05 * step[1], -1, 1));
        else turn(at);
      });
      return {
        set(value) { points = value.map((point) => [...point]); build(); },
        replay: handle,
        read() {
          if (!points.length) return { error: "There is no point: choose an example." };
          return { feed: [floats(points.flatMap(([x, y]) => [x, y]), [points.length, 2]),
            whole(points.map((point) => point[2]), [points.length])], points };
        },
        mark(at) { marks().forEach((mark, k) => mark.toggleAttribute("data-held", k === at)); },
        line([across, up, bias]) {
          const length = across ** 2 + up ** 2;
          if (length < 1e-12) return line.setAttribute("d", "");
          const x = (-bias * across) / length, y = (-bias * up) / length;
          const along = 3 / Math.sqrt(length);
          const ends = [-1, 1].map((s) =>
            [100 * (x + s * along * -up), -100 * (y + s * along * across)].map((k) => k.toFixed(1)));
          line.setAttribute("d", `M${ends[0].join(" ")}L${ends[1].join(" ")}`);
        },
      };
    },
  };

  // ---------------------------------------------------------------- how a model is run

  /** Return a function that runs the last of several calls, and never two at once. */
  function latest(work) {
    let turn = 0;
    const current = (mine) => mine === turn;
    return {
      stop() { turn += 1; },
      go(...given) {
        const mine = (turn += 1);
        return work(() => current(mine), ...given);
      },
    };
  }

  /** Return work whose failure is silent: it is told in words, and a console has no reader. */
  const calm = (work) => (...given) => Promise.resolve(work?.(...given)).catch(() => {});

  function pressed(button, on, words) {
    button.textContent = on ? "Stop" : words;
    button.toggleAttribute("data-running", on);
  }

  const runs = {
    once: (_, form) => {
      const answer = latest(async (current) => {
        const reading = form.given.read();
        if (reading.error) return form.refuse(reading.error);
        const answers = await form.ask(reading.feed);
        if (current()) form.show(answers, reading);
      });
      return { changed: answer.go, begin: answer.go };
    },

    writes: (config, form) => {
      const button = (name) => form.root.querySelector(`[data-do=${name}]`);
      const heat = button("temperature");
      const share = button("top-p"); // null where there is no such slider
      const rule = () => [heat, share].filter(Boolean).map((slider) => Number(slider.value));
      const window_ = form.config.given.length;
      let text = null; // where the writing stands
      let step = Promise.resolve(); // its last letter, which may be on its way

      async function feed(text, letters) {
        if (!config.state) {
          const kept = text.row.slice(-window_);
          const row = [...kept, ...new Array(window_ - kept.length).fill(0)];
          text.answers = await form.ask([whole(row, [1, window_])]);
          text.context.row = kept.length - 1;
          return;
        }
        for (const letter of letters) {
          const answers = await form.ask([whole([letter], [1]), text.state]);
          const last = answers.pop();
          text.state = { type: "float32", data: last.data, dims: last.dims };
          text.answers = answers;
        }
      }

      /** Return what was given once it is read; null where there is nothing to read. */
      async function anew() {
        const reading = form.given.read();
        if (reading.error) return form.refuse(reading.error), null;
        const size = (config.state ?? []).reduce((a, b) => a * b, 1);
        const fresh = { row: [...reading.ids], context: { ...reading, made: "" }, done: false,
          state: config.state && floats(new Float32Array(size), config.state) };
        await feed(fresh, fresh.row);
        return fresh;
      }

      async function letter(text) {
        const next = drawn(rowOf(text.answers[0], text.context), ...rule());
        if (next === config.stop) {
          text.done = true;
          return;
        }
        text.row.push(next);
        text.context.made += config.letters[next];
        await feed(text, [next]);
        text.done = [...text.context.made].length >= config.most;
      }

      const show = (quiet) => {
        if (share) text.context.drawnFrom = rule();
        form.show(text.answers, text.context, quiet);
      };
      const read = latest(async (current) => {
        pressed(button("write"), false, "Write");
        text = null;
        const fresh = await anew();
        if (!current()) return;
        text = fresh;
        if (text) show();
      });
      const write = latest(async (current, one) => {
        read.stop();
        pressed(button("write"), !one, "Write");
        try {
          await step; // a click may come before the last letter is there
          if (!current()) return;
          if (!text || text.done) {
            text = null;
            const fresh = await anew();
            if (!current()) return;
            text = fresh;
          }
          if (!text) return;
          do {
            step = letter(text).catch(() => { text = null; });
            await step;
            if (!current() || !text) return;
            show(!one && !text.done);
            if (!one && !text.done) await pause(40);
            if (!current()) return;
          } while (!one && !text.done);
          form.say(`${text.context.note} ${text.done ? "It wrote" : "So far"}: ` +
            `“${text.context.given}${text.context.made}”.`);
        } finally {
          if (current()) pressed(button("write"), false, "Write");
        }
      });
      button("write").addEventListener("click", () => {
        if (!button("write").hasAttribute("data-running")) return calm(write.go)(false);
        write.stop();
        pressed(button("write"), false, "Write");
        form.say("Stopped.");
      });
      button("letter").addEventListener("click", () => calm(write.go)(true));
      for (const slider of [heat, share].filter(Boolean)) {
        const told = slider.closest("label").querySelector("output");
        const moved = () => { told.value = slider.value; };
        slider.addEventListener("input", () => {
          moved();
          if (share && text) show();
        });
        moved(); // it may have been moved before this script had come
      }
      const changed = () => { write.stop(); read.go(); };
      return { changed, begin: changed };
    },

    translates: (config, form) => {
      const button = form.root.querySelector("[data-do=translate]");
      const answer = latest(async (current, wait) => {
        if (wait) await pause(350);
        if (!current()) return;
        const reading = form.given.read();
        if (reading.error) return form.refuse(reading.error);
        const before = new Array(config.steps).fill(0);
        const context = { ...reading, made: "", most: config.steps };
        form.say("It reads and writes …");
        for (let step = 0; step < config.steps; step++) {
          const began = performance.now();
          const answers = await form.ask([reading.feed[0], whole(before, [1, config.steps])]);
          if (!current()) return;
          const next = argmax(rowOf(answers[0], { row: step }));
          context.made += config.symbols[next];
          if (step + 1 < config.steps) before[step + 1] = next;
          form.show(answers, context, true);
          await pause(Math.max(0, 45 - (performance.now() - began)));
        }
        form.say(`${context.note} It wrote ${context.made}.`);
      });
      button.addEventListener("click", () => calm(answer.go)(false));
      return { changed: () => answer.go(true), begin: () => answer.go(false) };
    },

    repeats: (config, form) => {
      const [go, one] = ["run", "step"].map((name) => form.root.querySelector(`[data-do=${name}]`));
      let near = true; // a run that nobody sees waits
      new IntersectionObserver((seen) => { near = seen.at(-1).isIntersecting; }).observe(form.root);
      /** Go one step; return whether nothing is left that would move. */
      const step = async () => {
        const { feed, fresh } = form.given.read();
        const answers = await form.ask(feed);
        form.given.put(answers[0].data);
        form.show(answers, { fresh }, true);
        return config.still && feed[0].data.every((x, at) => Math.abs(x - answers[0].data[at]) < 1e-4);
      };
      const run = latest(async (current) => {
        pressed(go, true, "Run");
        for (let steps = 1; current(); steps++) {
          while (current() && (!near || document.hidden)) await pause(100);
          if (!current()) return;
          const began = performance.now();
          const rests = await step().catch(() => null); // null: the model cannot be asked
          if (!current()) return;
          if (rests === null) return halt();
          if (rests) {
            pressed(go, false, "Run");
            form.say(`Settled after ${some(steps - 1, "step")}.`);
            return;
          }
          form.say(`Step ${steps}`);
          await pause(Math.max(0, 1000 / config.perSecond - (performance.now() - began)));
        }
      });
      let stopped = false; // by the reader
      const halt = () => { run.stop(); pressed(go, false, "Run"); stopped = true; };
      go.addEventListener("click", () => (go.hasAttribute("data-running") ? halt() : run.go()));
      one.addEventListener("click", calm(async () => {
        halt();
        await step();
        form.say("One step further.");
      }));
      // Some things move by themselves, once they are touched; a picture waits for Run.
      const alive = () => { if (!go.hasAttribute("data-running")) run.go(); };
      if (form.given.runs) return { changed: alive, begin: alive };
      const calmly = matchMedia("(prefers-reduced-motion: reduce)");
      const moves = () => config.alive && !calmly.matches;
      return {
        changed() { if (moves() && !stopped) alive(); },
        begin() {
          stopped = false;
          if (moves()) alive();
          else form.say("The model is here: damage the picture, press Run.");
        },
      };
    },

    cuts: (config, form) => {
      const encoder = new TextEncoder();
      const rules = config.vocabularies.map(({ pattern, merges }) => {
        const tokens = Array.from({ length: 256 }, (_, byte) => [byte]);
        const number = new Map(tokens.map((token, at) => [String(token), at]));
        const ranks = new Map();
        for (let at = 0; at < merges.length; at += 2) {
          const token = [...tokens[merges[at]], ...tokens[merges[at + 1]]];
          const known = number.get(String(token)) ?? tokens.push(token) - 1;
          number.set(String(token), known);
          ranks.set(`${merges[at]} ${merges[at + 1]}`, [at, known]);
        }
        return { pattern: new RegExp(pattern, "gu"), tokens, ranks };
      });
      /** Merge the pair that was learned first, wherever it stands, until none is left. */
      function merged(piece, { tokens, ranks }) {
        const ids = [...encoder.encode(piece)];
        for (;;) {
          let best = null, place = -1;
          for (let at = 0; at + 1 < ids.length; at++) {
            const found = ranks.get(`${ids[at]} ${ids[at + 1]}`);
            if (found && (!best || found[0] < best[0])) [best, place] = [found, at];
          }
          if (!best) return ids.map((id) => tokens[id]);
          ids.splice(place, 2, best[1]);
        }
      }
      const answer = () => {
        const reading = form.given.read();
        if (reading.error) return form.refuse(reading.error);
        const text = reading.given.toWellFormed?.() ?? reading.given;
        const cuts = rules.map((rule) =>
          (text.match(rule.pattern) ?? []).flatMap((piece) => merged(piece, rule)));
        form.show([], { ...reading, cuts });
      };
      return { changed: answer, begin: answer };
    },

    corrects: (config, form) => {
      const [go, one, again] = ["run", "step", "again"].map((name) =>
        form.root.querySelector(`[data-do=${name}]`));
      const { given } = form;
      let w = [0, 0, 0], at = 0, count = 0;

      const score = ([x, y]) => w[0] * x + w[1] * y + w[2];
      const wrong = (points) => points.filter((point) => (score(point) >= 0 ? 1 : 0) !== point[2]);
      function tell() {
        const { points } = given.read();
        const left = wrong(points).length;
        given.line(w);
        const told = `${some(count, "correction")}, ${some(left, "point")} on the wrong side`;
        form.show([], { made: told }, true);
        return left;
      }
      /** Go on to the next point that lies wrong, and turn the line by it. */
      function correct() {
        const { points } = given.read();
        for (let tried = 0; tried < points.length; tried++) {
          const here = at % points.length;
          const point = points[here];
          at = here + 1;
          const error = point[2] - (score(point) >= 0 ? 1 : 0);
          if (!error) continue;
          w = [w[0] + error * point[0], w[1] + error * point[1], w[2] + error];
          count += 1;
          given.mark(here);
          return true;
        }
        given.mark(-1);
        return false;
      }
      const end = (left) => form.say(left === 0
        ? `Done: the line separates the classes after ${some(count, "correction")}.`
        : `After ${some(count, "correction")}, ${some(left, "point")} on the wrong side. ` +
          "Where no line separates the classes, it never ends.");
      const run = latest(async (current) => {
        pressed(go, true, "Run");
        form.say("Correcting …");
        const until = count + config.most;
        while (current() && count < until && correct()) {
          tell();
          await pause(count < 30 ? 150 : 20);
        }
        if (!current()) return;
        pressed(go, false, "Run");
        end(tell());
      });
      const halt = () => { run.stop(); pressed(go, false, "Run"); };
      const reset = () => { w = [0, 0, 0], at = 0, count = 0; given.mark(-1); };
      go.addEventListener("click", () => (go.hasAttribute("data-running") ? halt() : run.go()));
      one.addEventListener("click", () => {
        halt();
        correct();
        const left = tell();
        form.say(left ? `${some(left, "point")} to go.` : `Done after ${some(count, "correction")}.`);
      });
      again.addEventListener("click", () => {
        halt();
        reset();
        tell();
        form.say("The weights are zero again.");
      });
      return {
        changed() {
          count = 0;
          if (!go.hasAttribute("data-running")) {
            reset();
            run.go();
          } else tell();
        },
        begin: () => { reset(); run.go(); },
      };
    },
  };

  // ---------------------------------------------------------------- the engine

  let engine = null;

  /** Load onnxruntime's script and machine, once; one thread, no worker, nothing fetched. */
  const ready = () => (engine ??= (async () => {
    await Promise.all([nnLoad("vendor/live/ort.js"), nnLoad("vendor/live/engine.js")]);
    const packed = new Blob([bytes(self.nnEngine)]).stream();
    const unpacked = packed.pipeThrough(new DecompressionStream("gzip"));
    ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
    self.nnEngine = null;
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.proxy = false;
    ort.env.logLevel = "error";
    return ort;
  })().catch((error) => {
    engine = null;
    throw error;
  }));

  async function opened(file) {
    const { InferenceSession } = await ready();
    return InferenceSession.create(bytes(file), { executionProviders: ["wasm"], logSeverityLevel: 3 });
  }

  // ---------------------------------------------------------------- a form

  function start(figure, early) {
    const { config, onnx } = self.nnModels[figure.dataset.live];
    const root = figure.querySelector(".nn-given");
    const told = figure.querySelector(".nn-live-told");
    let session = null, queue = Promise.resolve(), broken = false;

    // Who looks reads every word at once; who listens hears the last one, once it has settled.
    const heard = Object.assign(document.createElement("p"), { className: "nn-live-heard" });
    heard.setAttribute("role", "status");
    told.removeAttribute("role");
    told.after(heard);
    let settling = 0;

    const form = {
      root, config,
      say(words) {
        if (broken) return;
        told.textContent = words.trim();
        clearTimeout(settling);
        settling = setTimeout(() => { heard.textContent = told.textContent; }, 700);
      },
      refuse(words) {
        figure.dataset.state = "refused";
        form.say(words);
      },
      show(answers, context, quiet = false) {
        figure.dataset.state = "live";
        const words = parts.map((part) => part.show(answers, context)).filter(Boolean);
        const told = words.length ? `The model says: ${words.join("; ")}.` : "What you see is the model's answer.";
        if (!quiet) form.say(`${context.note ?? ""} ${told}`);
      },
      /** Run the model; one run follows the other. */
      ask(feed) {
        const run = async () => {
          session ??= opened(onnx);
          const model = await session;
          const given = feed.map((x, at) =>
            [model.inputNames[at], new ort.Tensor(x.type, x.data, x.dims)]);
          const found = await model.run(Object.fromEntries(given));
          return model.outputNames.map((name) => found[name]);
        };
        const answer = queue.then(run);
        queue = answer.catch(() => {});
        answer.catch(fail);
        return answer;
      },
    };
    function fail() {
      if (broken) return;
      form.say("The model could not be loaded: what you see is the recorded example. " +
        "Any change tries again.");
      figure.dataset.state = "failed";
      form.given.set(config.example); // the answer that stands there is its answer
      session = null;
    }
    const parts = config.shown.map((part, at) =>
      outputs[part.kind](figure.querySelectorAll(".nn-shown > .nn-now")[at], part));
    let run = null;
    form.given = inputs[config.given.kind](root, config.given, () => run?.changed());
    const made = runs[config.run.kind](config.run, form);
    run = { changed: calm(made.changed), begin: calm(made.begin) };

    figure.dataset.state = "live";
    for (const button of root.querySelectorAll("[data-example]"))
      button.addEventListener("click", () => {
        form.given.set(config.given.examples[button.dataset.example]);
        run.begin();
      });

    // What was done before this script had come.
    const touched = early.filter((event) => event.isTrusted || event.type);
    const clicks = touched.filter((event) => event.type === "click");
    const pressed = clicks.map((event) => event.target.closest("button")).filter(Boolean);
    let button = clicks.at(-1)?.target.closest("button");
    const nodes = pressed.slice(pressed.findLastIndex((each) => !each.matches("[data-node]")) + 1);
    const letter = button?.closest(".nn-letters")
      ? [...button.parentNode.children].indexOf(button) : -1;
    const drew = touched.some((event) => event.type === "pointerdown" && form.given.replay);
    const typed = touched.some((event) => event.type === "input" || event.type === "change");
    if (!typed && !drew) form.given.set(config.example);
    else if (["plane", "point", "damage", "cart", "links"].includes(config.given.kind))
      form.given.set(config.example);
    if (drew) touched.filter((event) => event.type.startsWith("pointer")).forEach(form.given.replay);
    else form.given.redraw?.();
    const drawn = document.activeElement;
    if (drawn.matches("canvas, .nn-damage, .nn-point, .nn-cart") && root.contains(drawn))
      for (const { key, shiftKey } of touched.filter((event) => event.type === "keydown"))
        drawn.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true, cancelable: true }));
    if (letter >= 0) button = root.querySelector(".nn-letters").children[letter];
    if (nodes.at(-1) === button) for (const node of nodes.slice(0, -1)) node.click(); // two make an edge
    if (button) button.click();
    else if (!drew) run.begin();
    form.run = run;
    figure.nnForm = form; // for tests, and for the curious
  }

  return { start };
})();
