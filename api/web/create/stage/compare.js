// Two images over each other with a dividing line, or side by side.

import { html, useState } from "../../shared/html.js";
import { Picture } from "../../shared/pictures.js";
import { store } from "../../shared/store.js";

const Side = ({ side, role }) =>
  side.url
    ? html`<img class=${role} src=${side.url} alt=${side.label} />`
    : html`<${Picture} class=${role} address=${side.address} alt=${side.label} />`;

/** Both sides; two of one seed are told apart by their strengths. */
function apart({ a, b }) {
  if (a.label !== b.label || a.strengths === b.strengths) return [a, b];
  const inWords = ({ strengths }) => (strengths ? `strength ${strengths}` : "without a concept");
  return [a, b].map((side) => ({ ...side, label: `${side.label}, ${inWords(side)}` }));
}

export function Compare() {
  const { way, choosing, ...sides } = store.compare.value;
  const [a, b] = apart(sides);
  const [split, setSplit] = useState(50);
  const set = (changes) => {
    store.compare.value = { ...store.compare.value, ...changes };
  };
  return html`
    <div class="compare" id="compare" data-way=${way} style=${{ "--split": `${split}%` }}>
      <figure>${Side({ side: a, role: "first" })}<figcaption>${a.label}</figcaption></figure>
      <figure>${Side({ side: b, role: "second" })}<figcaption>${b.label}</figcaption></figure>
      ${way === "slider" && html`<span class="divider" aria-hidden="true"></span>`}
    </div>
    <div class="actions" role="group" aria-label="Comparison">
      ${way === "slider" &&
      html`<label class="grow split" for="split">
        <span class="sr">Dividing line: ${a.label} left, ${b.label} right</span>
        <input id="split" type="range" min="0" max="100" value=${split} onInput=${({ target }) => setSplit(Number(target.value))} />
      </label>`}
      <button type="button" class="small" onClick=${() => set({ way: way === "slider" ? "sides" : "slider" })}>${way === "slider" ? "Side by side" : "With a slider"}</button>
      <button type="button" class="small" onClick=${() => set({ a: sides.b, b: sides.a })}>Swap</button>
      <button type="button" class="small" onClick=${() => (store.compare.value = null)}>Done</button>
      ${choosing && html`<span class="hint">Choose the other image in the film strip.</span>`}
    </div>
  `;
}
