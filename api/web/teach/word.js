// Whether the base model knows the concept's word. A model that lists what it knows tells at once;
// of any other the check of the photos tells how its vocabulary cuts the word.

import { html, signal } from "../shared/html.js";
import { store } from "../shared/store.js";
import { count } from "../shared/words.js";

const NEAREST = 3;
const ALIKE = 0.5;

/** What the last check of the photos said about its word. */
export const checkedWord = signal({ word: "", detail: "" });

/** What a check's job warns of, about the word that it was sent with. */
export function noteWord(word, warnings) {
  const warning = warnings.find(({ type }) => type.endsWith("/unfamiliar-superclass"));
  checkedWord.value = { word, detail: warning?.detail ?? "" };
}

/** Shown under the field of the word; a known word is one press away. */
export function WordFinding({ word, onChoose }) {
  const { detail, near, known } = findingOf(word);
  const buttons = (words) => words.map((each) => html`<button type="button" class="chip" key=${each} onClick=${() => onChoose(each)}>${each}</button>`);
  return html`
    <div class="word-finding" id="word-finding">
      <p class="finding" role="status" hidden=${!detail}>${detail}</p>
      ${near.length > 0 && html`<p class="row" role="group" aria-label="Nearest in spelling"><span class="hint">Nearest in spelling:</span> ${buttons(near)}</p>`}
      ${known.length > 0 && html`<details>
        <summary>It knows ${count(known.length, "word")}</summary>
        <div class="row" role="group" aria-label="Words that it knows">${buttons(known)}</div>
      </details>`}
    </div>
  `;
}

/** `{detail, near, known}`: the finding about a word, the nearest and all of those that are known. */
export function findingOf(superclass) {
  const word = superclass.trim().split(/\s+/).join(" ");
  const nothing = { detail: "", near: /** @type {string[]} */ ([]), known: /** @type {string[]} */ ([]) };
  const known = store.base.value?.known_superclasses ?? [];
  if (known.length === 0) return { ...nothing, detail: checkedWord.value.word === word ? checkedWord.value.detail : "" };
  const last = word.toLowerCase().split(" ").at(-1);
  const knows = (text) => known.some((each) => each.toLowerCase() === text);
  if (!word || knows(word.toLowerCase()) || knows(last)) return nothing;
  const detail = `This base model was not trained to draw '${word}'. A word that it knows, for a thing of a similar shape, often teaches better.`;
  return { detail, near: nearest(last, known), known };
}

/** The known words that are spelled most like this one, as the server chooses them. */
function nearest(word, known) {
  const rated = known.map((each) => ({ each, likeness: (2 * matches(each, word)) / (each.length + word.length) }));
  const alike = rated.filter(({ likeness }) => likeness >= ALIKE);
  alike.sort((a, b) => b.likeness - a.likeness || (a.each < b.each ? 1 : -1));
  return alike.slice(0, NEAREST).map(({ each }) => each);
}

/** The letters in the longest common block and, on both sides of it, in those left (Python's difflib). */
function matches(a, b) {
  let [length, i, j] = [0, 0, 0];
  for (let x = 0; x < a.length; x++) {
    for (let y = 0; y < b.length; y++) {
      let same = 0;
      while (x + same < a.length && a[x + same] === b[y + same]) same += 1;
      if (same > length) [length, i, j] = [same, x, y];
    }
  }
  if (length === 0) return 0;
  return matches(a.slice(0, i), b.slice(0, j)) + length + matches(a.slice(i + length), b.slice(j + length));
}
