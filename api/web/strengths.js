// One dial per concept in the prompt. What is moved is sent as `concepts`; what is not, is the server's.

import { curveStrip } from "./curve.js";
import { conceptList, findConcept } from "./concept-list.js";
import { byId, el } from "./dom.js";
import { face } from "./face.js";
import { FAINTEST, STEP, STRONGEST, betaOf, defaultBeta, figures, inWords, strengthOf } from "./gate.js";
import { mentionedNames, withStrength } from "./prompt.js";
import { promptText, setPrompt } from "./prompt-box.js";
import { statusWord } from "./words.js";

// What was chosen by hand or taken from an image: {beta, tau}; it is sent.
const chosen = new Map();
// The number that the prompt gives a concept, or null; the server reads it there.
const written = new Map();
const rows = new Map();

/** Keep the dials in step with the prompt and the locking. */
export function startStrengths() {
  byId("prompt").addEventListener("input", sync);
  byId("locking").addEventListener("change", sync);
  conceptList.addEventListener("changed", () => {
    rows.clear();
    sync();
  });
}

/** The explicit `concepts` of a request: those of the prompt whose dial was moved. */
export function usedConcepts() {
  return [...mentionedNames(promptText()).keys()]
    .filter((name) => findConcept(name) && chosen.has(name))
    .map((name) => ({ name, ...chosen.get(name) }));
}

/** Take the gates of an earlier request, exactly, and no others. */
export function setGates(concepts) {
  chosen.clear();
  for (const { name, beta, tau } of concepts) chosen.set(name, { beta, tau });
  rows.clear();
  sync();
}

function sync() {
  const names = mentionedNames(promptText());
  for (const [name, strength] of names) {
    const number = strength > 0 ? strength : null;
    // A number that was just typed into the prompt counts from now on.
    if (number !== null && number !== written.get(name)) chosen.delete(name);
    written.set(name, number);
    if (!rows.has(name)) rows.set(name, row(name));
    rows.get(name).show();
  }
  for (const map of [rows, written]) for (const name of map.keys()) if (!names.has(name)) map.delete(name);
  byId("strength-list").replaceChildren(...[...names.keys()].map((name) => rows.get(name).item));
  byId("strengths").hidden = names.size === 0;
}

/** Choose a bias by hand; a number in the prompt follows. */
function choose(name, beta) {
  chosen.set(name, { beta });
  const strength = strengthOf(beta);
  if (written.get(name) !== null) written.set(name, strength);
  const text = withStrength(promptText(), name, strength);
  if (text === promptText()) rows.get(name).show();
  else setPrompt(text);
}

/** The gate that an image would be made with now, and where it comes from. */
function gateOf(concept) {
  const { name, recommended_strength: recommended = null } = concept;
  if (chosen.has(name)) return { ...chosen.get(name), source: "" };
  const number = written.get(name) ?? null;
  if (number !== null) return { beta: betaOf(number), source: "" };
  const locking = byId("locking").value || "local";
  const source = locking === "local" && recommended !== null ? "recommended" : "usual";
  return { beta: defaultBeta(locking, recommended), source };
}

function row(name) {
  const concept = findConcept(name);
  const id = `strength-${name}`;
  if (!concept?.usable) return unusable(name, concept);
  const output = el("output", { for: id });
  // A range grows to the right and with every key that means more, and β falls: so its value is −β.
  const slider = el("input", {
    id,
    type: "range",
    min: -FAINTEST,
    max: -STRONGEST,
    step: STEP,
    "aria-describedby": "strength-hint",
    oninput: () => choose(name, -Number(slider.value)),
  });
  const strip = curveStrip(concept, (beta) => choose(name, beta));
  const show = () => {
    const { source, ...gate } = gateOf(concept);
    slider.value = -gate.beta; // one beyond the dial rests it at its end
    const words = source ? `${inWords(gate.beta)}, ${source}` : inWords(gate.beta);
    slider.setAttribute("aria-valuetext", `${figures(gate)}, ${words}`);
    output.replaceChildren(el("strong", {}, figures(gate)), ` ${words}`);
    strip.show(gate.beta);
  };
  const head = el("div", { class: "head" }, el("label", { for: id }, el("code", {}, `<${name}>`)), output);
  const ends = el("p", { class: "ends", "aria-hidden": "true" }, el("span", {}, "the prompt"), el("span", {}, "your photos"));
  const item = el("li", { class: "strength" }, face(concept, "small"), head, slider, ends, strip.element);
  return { item, show };
}

const whyNot = ({ status, reason }) =>
  status === "ready" ? `cannot be used here. ${reason}` : `is not ready: ${statusWord(status)}`;

function unusable(name, concept) {
  const why = concept ? whyNot(concept) : "is not a concept of yours";
  const item = el("li", { class: "strength bad" }, el("code", {}, `<${name}>`), el("span", {}, why));
  return { item, show() {} };
}
