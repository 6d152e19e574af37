// The settings beside the prompt: the base model's defaults and bounds, and the seed.

import { boundsOf, defaultOf, limitInput, outOfBounds } from "./base-model.js";
import { byId, el } from "./dom.js";
import { showFieldProblem } from "./field-errors.js";

export const SCHEDULERS = { ddim: "DDIM", dpmpp_2m: "DPM-Solver++ 2M", euler: "Euler", unipc: "UniPC" };
export const LOCKINGS = { local: "Local", global: "Global" };
const SEEDS = { minimum: 0, maximum: 2 ** 32 - 1, type: "integer" };
const NO_BOUNDS = { above: null, below: null, multipleOf: null };

const controls = () => [...document.querySelectorAll("[data-setting]")];

/** Wire the seed. An empty field is a new seed each time; a number is kept. */
export function startSettings() {
  byId("seed").addEventListener("input", showSeedMode);
  byId("seed-random").addEventListener("click", () => keepSeed(""));
  fillChoices(byId("scheduler"), Object.keys(SCHEDULERS), SCHEDULERS);
  fillChoices(byId("locking"), Object.keys(LOCKINGS), LOCKINGS);
}

/** Use this seed from now on; "" makes it random again. */
export function keepSeed(seed) {
  byId("seed").value = seed;
  showSeedMode();
}

function showSeedMode() {
  const input = byId("seed");
  const random = input.value === "" && !input.validity.badInput;
  byId("seed-random").setAttribute("aria-pressed", String(random));
}

/** Give every field the base model's default and bounds; what was typed stays. */
export function applyBaseModel(resolution) {
  for (const control of controls()) {
    const option = control.dataset.setting;
    const bounds = boundsOf("generate", option);
    if (control.type === "number") limitInput(control, bounds);
    if (control.tagName === "SELECT" && bounds.choices) {
      fillChoices(control, bounds.choices, option === "scheduler" ? SCHEDULERS : LOCKINGS);
    }
    if (control.tagName === "SELECT" || control.value === "") {
      control.value = defaultOf("generate", option) ?? "";
    }
  }
  byId("locking").dispatchEvent(new Event("change"));
  byId("width").placeholder = resolution?.width ?? "automatic";
  byId("height").placeholder = resolution?.height ?? "automatic";
}

function fillChoices(select, choices, labels) {
  const kept = select.value;
  select.replaceChildren(...choices.map((value) => el("option", { value }, labels[value] ?? value)));
  if (choices.includes(kept)) select.value = kept;
}

/** The settings of the request; null where one is out of its bounds (and says so). */
export function chosenSettings() {
  const chosen = {};
  const wrong = [];
  for (const control of controls()) {
    const option = control.dataset.setting;
    if (control.type === "checkbox") chosen[option] = control.checked;
    else if (control.type !== "number") chosen[option] = control.value;
    else readNumber(control, boundsOf("generate", option), (value) => (chosen[option] = value), wrong);
  }
  readNumber(byId("seed"), { ...NO_BOUNDS, ...SEEDS }, (value) => (chosen.seed = value), wrong);
  if (wrong.length === 0) return chosen;
  wrong[0].closest("details")?.setAttribute("open", "");
  wrong[0].focus();
  return null;
}

function readNumber(input, bounds, take, wrong) {
  if (input.value === "" && !input.validity.badInput) return;
  const value = input.validity.badInput ? NaN : Number(input.value);
  const problem = outOfBounds(bounds, value);
  if (!problem) return take(value);
  showFieldProblem(input, problem);
  wrong.push(input);
}

/** Fill the fields from an earlier request and keep its seed. */
export function useSettings(request, seed) {
  for (const control of controls()) {
    const value = request[control.dataset.setting];
    if (value === undefined || value === null) continue;
    if (control.type === "checkbox") control.checked = value;
    else control.value = value;
  }
  keepSeed(seed ?? request.seed ?? "");
}
