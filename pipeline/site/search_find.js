// Finds sections: asks Pagefind for all the words and for each, and ranks what it answers.

import * as pagefind from "./pagefind.js";

// What a hit counts by what it is.
const KINDS = { chapter: 1.5, term: 1.1, section: 1, page: 0.8, api: 0.35, equations: 0.25 };
const STOP = new Set(
  ("a an and are as at be by can do does for from get how i in into is it its me my of on or so " +
   "that the this to use using was we what when where which who why with you").split(" "));
const LOADED = 30; // records whose text is fetched, at most
const SECTIONS = 3; // shown of a page

let ready;

function prepare() {
  ready ??= (async () => {
    await pagefind.options({
      excerptLength: 26,
      ranking: { metaWeights: { title: 5, also: 5, name: 1.5, page: 1 }, termSimilarity: 4 },
    });
    const [list] = await Promise.all([
      fetch(new URL("words.json", import.meta.url)).then((answer) => answer.json()),
      pagefind.init(),
    ]);
    return list;
  })();
  return ready;
}

/** Return the pages with their best sections, and what was looked for in the end. */
export async function find(query) {
  const known = await prepare();
  const typed = query.toLowerCase().match(/[\p{L}\d_]+/gu) ?? [];
  let words = typed.filter((word) => !STOP.has(word));
  if (!words.length) words = typed;
  const meant = words.map((word) => correct(word, known)).filter(Boolean);
  const corrected = meant.some((word) => !words.includes(word)) ? meant.join(" ") : "";
  const scored = meant.length ? await score(meant) : [];
  const records = await Promise.all(scored.slice(0, LOADED).map(load));
  return { words: meant, corrected, pages: group(records) };
}

/** Return the hits, best first; one with all words stands before those with some. */
async function score(words) {
  const asked = words.length > 1 ? [words.join(" "), ...words] : words;
  const answers = await Promise.all(asked.map((text) => pagefind.search(text)));
  const hits = new Map();
  answers.forEach(({ results }, at) => {
    const all = words.length > 1 && at === 0;
    for (const result of results) {
      const hit = hits.get(result.id) ?? { result, score: 0, matched: 0 };
      hit.score += result.score;
      hit.matched += all ? 0 : 1;
      hits.set(result.id, hit);
    }
  });
  for (const hit of hits.values()) hit.score *= (hit.matched / words.length) ** 2;
  return [...hits.values()].sort((a, b) => b.score - a.score);
}

async function load({ result, score }) {
  const { raw_url: place, meta, excerpt } = await result.data();
  // Pagefind read a file for each record, named page~kind or page~section~kind.
  const [page, ...rest] = place.slice(1).split("~");
  const kind = rest.pop(), [anchor = ""] = rest;
  return { page, anchor, kind, excerpt, title: meta.title ?? meta.name, of: meta.page, score: score * KINDS[kind] };
}

/** Gather the records by page; many good ones speak for a page, but the best decides. */
function group(records) {
  const pages = new Map();
  for (const record of records.sort((a, b) => b.score - a.score)) {
    const entry = pages.get(record.page) ?? { page: record.page, title: record.of, sections: [] };
    entry.sections.push(record);
    pages.set(record.page, entry);
  }
  const total = ({ sections: [best, ...rest] }) =>
    best.score + 0.15 * rest.slice(0, 4).reduce((sum, { score }) => sum + score, 0);
  const sorted = [...pages.values()].sort((a, b) => total(b) - total(a));
  for (const entry of sorted) entry.sections = entry.sections.slice(0, SECTIONS);
  return sorted;
}

/** Return the word that was meant, or nothing where the book has none like it. */
function correct(word, known) {
  const allowed = word.length < 4 || /\d/.test(word) ? 0 : word.length < 7 ? 1 : 2;
  const stem = word.length > 5 ? word.replace(/(?:ings?|ed|es|s|ers?)$/, "") : word;
  if (!allowed || known.some((other) => other.startsWith(stem))) return word;
  let best = null, least = allowed + 1;
  for (const other of known) {
    if (Math.abs(other.length - word.length) >= least) continue;
    const distance = edits(word, other);
    if (distance < least) [best, least] = [other, distance];
  }
  return best;
}

/** Count the letters to insert, delete, replace or swap with their neighbour. */
function edits(a, b) {
  let before = [], last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] !== b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], before[j - 2] + 1);
      }
    }
    [before, last] = [last, row];
  }
  return last[b.length];
}
