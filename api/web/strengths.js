// One strength slider per concept in the prompt; they write the request's `concepts`.

import { curveStrip } from "./curve.js";
import { conceptList, findConcept } from "./concept-list.js";
import { byId, el } from "./dom.js";
import { face } from "./face.js";
import { mentionedNames, withStrength } from "./prompt.js";
import { promptText, setPrompt } from "./prompt-box.js";
import { statusWord } from "./words.js";

export const DEFAULT_STRENGTH = 0.88;
const LOWEST = 0.05;
const HIGHEST = 0.95;

const chosen = new Map();
const rows = new Map();

/** Keep the sliders in step with the prompt. */
export function startStrengths() {
  byId("prompt").addEventListener("input", sync);
  conceptList.addEventListener("changed", () => {
    rows.clear();
    sync();
  });
}

/** The explicit `concepts` of a request: those in the prompt that the server has. */
export function usedConcepts() {
  return [...mentionedNames(promptText()).keys()]
    .filter(findConcept)
    .map((name) => ({ name, strength: chosen.get(name) ?? DEFAULT_STRENGTH }));
}

/** Take the strengths of an earlier request. */
export function setStrengths(concepts) {
  for (const { name, strength } of concepts) if (name && strength) chosen.set(name, strength);
  rows.clear();
  sync();
}

function sync() {
  const names = mentionedNames(promptText());
  for (const [name, written] of names) {
    // A number typed into the prompt moves the slider, as the slider rewrites the number.
    if (written > 0) chosen.set(name, written);
    const known = rows.get(name);
    if (!known) rows.set(name, row(name));
    else known.show();
  }
  for (const name of [...rows.keys()]) if (!names.has(name)) rows.delete(name);
  byId("strength-list").replaceChildren(...[...names.keys()].map((name) => rows.get(name).item));
  byId("strengths").hidden = names.size === 0;
}

function row(name) {
  const concept = findConcept(name);
  const id = `strength-${name}`;
  if (!concept || concept.status !== "ready") return unusable(name, concept);
  const output = el("output", { for: id });
  const slider = el("input", {
    id,
    type: "range",
    min: LOWEST,
    max: HIGHEST,
    step: 0.01,
    value: chosen.get(name) ?? DEFAULT_STRENGTH,
    oninput: () => {
      chosen.set(name, Number(slider.value));
      output.textContent = slider.value;
      const text = withStrength(promptText(), name, slider.value);
      if (text !== promptText()) setPrompt(text);
    },
  });
  const strip = curveStrip(concept, (strength) => {
    slider.value = strength;
    slider.dispatchEvent(new Event("input"));
  });
  const show = () => {
    const strength = chosen.get(name) ?? DEFAULT_STRENGTH;
    if (document.activeElement !== slider) slider.value = strength;
    output.textContent = strength.toFixed(2);
    strip.show(strength);
  };
  slider.addEventListener("input", show);
  show();
  const label = el("label", { for: id }, el("code", {}, `<${name}>`));
  const item = el("li", { class: "strength" }, face(concept, "small"), label, output, slider, strip.element);
  return { item, show };
}

function unusable(name, concept) {
  const why = concept ? `is not ready: ${statusWord(concept.status)}` : "is not a concept of yours";
  const item = el("li", { class: "strength bad" }, el("code", {}, `<${name}>`), el("span", {}, why));
  return { item, show() {} };
}
