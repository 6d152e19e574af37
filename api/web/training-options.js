// The training options, drawn from the bounds and defaults that the base model tells.

import { boundsInWords, boundsOf, defaultOf, limitInput, optionsOf, outOfBounds } from "./base-model.js";
import { byId, el } from "./dom.js";
import { showFieldProblem } from "./field-errors.js";

// The label and, where the server's own description is for experts, a plainer hint.
const WORDS = {
  max_train_steps: ["Steps", "More learn more, until too many copy the photos."],
  train_batch_size: ["Batch size", "Photos looked at in one step."],
  learning_rate: ["Learning rate", "How fast the look is learned."],
  embedding_learning_rate: ["Word learning rate", "How fast the new word is learned."],
  background_weight: ["Keep the background", "How firmly what surrounds the object stays plain; 0 leaves it free."],
  beta: ["Gate bias β"],
  tau: ["Gate temperature τ"],
  ema_decay: ["Running mean", "How slowly the word's encoding moves."],
  flip: ["Also learn from mirrored photos", "Turn it off where left differs from right, as with letters."],
  seed: ["Seed", "The same seed and photos give the same concept."],
  resolution: ["Resolution"],
  early_stopping: ["Keep the best state, stop when it gets no better", "Where this server can judge concepts."],
};

/** Draw the fields; called again when the base model becomes known. */
export function drawTrainingOptions() {
  const options = optionsOf("train");
  byId("training-details").hidden = options.length === 0;
  byId("training-options").replaceChildren(...options.map(field));
}

/** The options that differ from the defaults, or null where one is out of its bounds. */
export function chosenTraining() {
  const chosen = {};
  let fine = true;
  for (const input of byId("training-options").querySelectorAll("[data-option]")) {
    const option = input.dataset.option;
    if (input.type === "checkbox") {
      if (input.checked !== defaultOf("train", option)) chosen[option] = input.checked;
      continue;
    }
    if (input.value === "" && !input.validity.badInput) continue;
    const value = input.validity.badInput ? NaN : Number(input.value);
    const wrong = outOfBounds(boundsOf("train", option), value);
    if (wrong) {
      showFieldProblem(input, wrong);
      byId("training-details").open = true;
      if (fine) input.focus();
      fine = false;
    } else if (value !== defaultOf("train", option)) chosen[option] = value;
  }
  return fine ? chosen : null;
}

function field(option) {
  const id = `training-${option}`;
  const bounds = boundsOf("train", option);
  const [label, plain] = WORDS[option] ?? [option];
  const own = { id, dataset: { option, pointer: `/training/${option}` } };
  const error = el("p", { class: "error", id: `${id}-error`, hidden: true });
  const hint = el("p", { class: "hint", id: `${id}-hint` }, hintOf(bounds, plain));
  own["aria-describedby"] = `${id}-hint ${id}-error`;
  if (bounds.type === "boolean") {
    const box = el("input", { ...own, type: "checkbox", checked: defaultOf("train", option) });
    return el("div", { class: "field wide" }, el("label", { class: "check", for: id }, box, label), hint, error);
  }
  const input = el("input", {
    ...own,
    type: "number",
    inputmode: bounds.type === "integer" ? "numeric" : "decimal",
    placeholder: "automatic",
    value: defaultOf("train", option) ?? "",
  });
  limitInput(input, bounds);
  return el("div", { class: "field" }, el("label", { for: id }, label), input, hint, error);
}

function hintOf(bounds, plain) {
  const range = bounds.type === "boolean" ? "" : boundsInWords(bounds);
  return [plain ?? bounds.description, range && `From ${range}.`.replace("From a", "A")].filter(Boolean).join(" ");
}
