// What is asked for in Create: the prompt, the gates, the settings; and how requests come back into it.

import { go } from "./router.js";
import { betaOf, defaultBeta, strengthOf } from "./gate.js";
import { mentionedNames, withStrength } from "./prompt.js";
import { clearRefusal, findConcept, store } from "./store.js";
import { defaultOf } from "../server/base-model.js";

/** The settings that a request may bring back. */
const SETTINGS = [
  "negative_prompt",
  "num_images",
  "num_inference_steps",
  "guidance_scale",
  "guidance_rescale",
  "scheduler",
  "locking",
  "gates",
  "width",
  "height",
  "attention_maps",
];

const change = (changes) => {
  store.draft.value = { ...store.draft.value, ...changes };
};

/** Take a prompt as it was typed: a number that was just written counts from now on. */
export function setPrompt(prompt) {
  const before = mentionedNames(store.draft.value.prompt);
  const gates = { ...store.draft.value.gates };
  for (const [name, strength] of mentionedNames(prompt)) {
    if (strength > 0 && strength !== before.get(name)) delete gates[name];
  }
  change({ prompt, gates });
  clearRefusal("/prompt");
}

/** Choose a concept's bias by hand; a number in the prompt follows. */
export function chooseBeta(name, beta) {
  const { prompt, gates } = store.draft.value;
  change({ prompt: withStrength(prompt, name, strengthOf(beta)), gates: { ...gates, [name]: { beta } } });
}

/** Let the server choose again. */
export function forgetGate(name) {
  const { [name]: _, ...gates } = store.draft.value.gates;
  change({ gates });
}

export const setSetting = (option, value) => {
  change({ settings: { ...store.draft.value.settings, [option]: value } });
  clearRefusal(`/${option}`);
};

/** Use this seed from now on; "" makes it random again. */
export const keepSeed = (seed) => {
  change({ seed: String(seed) });
  clearRefusal("/seed");
};

/** What a setting is now: chosen here, else the base model's default. */
export const settingOf = (option) => store.draft.value.settings[option] ?? defaultOf("generate", option) ?? "";

export const locking = () => settingOf("locking") || "local";

/** The gate that an image would be made with now, and where it comes from. */
export function gateOf(concept) {
  const { name, recommended_strength: recommended = null } = concept;
  const { gates, prompt } = store.draft.value;
  if (gates[name]) return { ...gates[name], source: "" };
  const number = mentionedNames(prompt).get(name);
  if (number > 0) return { beta: betaOf(number), source: "" };
  const source = locking() === "local" && recommended !== null ? "recommended" : "usual";
  return { beta: defaultBeta(locking(), recommended), source };
}

/** The explicit `concepts` of a request: those of the prompt whose dial was moved. */
export function usedGates() {
  const { gates, prompt } = store.draft.value;
  return [...mentionedNames(prompt).keys()]
    .filter((name) => findConcept(name) && gates[name])
    .map((name) => ({ name, ...gates[name] }));
}

/** Go to Create with a concept added to the prompt. */
export function insertConcept(name) {
  const text = store.draft.value.prompt;
  if (!text.trim()) setPrompt(`a photo of <${name}> `);
  else if (!mentionedNames(text).has(name)) setPrompt(`${text.replace(/\s*$/, " ")}<${name}> `);
  go("create");
  setTimeout(() => {
    const prompt = /** @type {?HTMLTextAreaElement} */ (document.getElementById("prompt"));
    prompt?.focus();
    prompt?.setSelectionRange(prompt.value.length, prompt.value.length);
  });
}

/** Fill Create from an earlier request: its prompt, its settings, its gates exactly, and a seed. */
export function restore(request, seed) {
  const settings = {};
  for (const option of SETTINGS) {
    const value = request[option];
    if (value !== undefined && value !== null && value !== defaultOf("generate", option)) settings[option] = value;
  }
  const gates = {};
  for (const { name, beta, tau } of request.concepts ?? []) gates[name] = tau === undefined ? { beta } : { beta, tau };
  store.draft.value = { prompt: request.prompt ?? "", seed: String(seed ?? request.seed ?? ""), settings, gates };
  store.refusals.value = {};
  store.grid.value = null;
  go("create");
}
