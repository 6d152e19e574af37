// The training options, drawn from the bounds and defaults that the base model tells.

import { boundsInWords, boundsOf, defaultOf, optionsOf, outOfBounds } from "../server/base-model.js";
import { Field, NO_NUMBER, NumberField, controlOf } from "../shared/fields.js";
import { html } from "../shared/html.js";

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
  resolution: ["Resolution", "Side in pixels; empty: the base model's."],
  fit_embedding: ["Fit the word first", "For kinds of several words, such as teddy bear."],
  hold_embedding_norm: ["Hold the word's length", "The new word moves, but stays as strong as it began."],
  scale_embedding_rate: ["Word learning rate fits the text encoder", "One rate then means the same on every base model."],
  min_snr_gamma: ["Min-SNR γ", "Usually 5; empty: every noise level counts alike."],
  early_stopping: ["Keep the best state, stop when it gets no better", "Where this server can judge concepts."],
};

/** The options that differ from the defaults: `{chosen}`, or `{refusals}` by pointer. */
export function readTraining(values) {
  const chosen = {};
  const refusals = {};
  for (const [option, written] of Object.entries(values)) {
    if (written === "") continue;
    if (typeof written === "boolean") {
      if (written !== defaultOf("train", option)) chosen[option] = written;
      continue;
    }
    const value = written === NO_NUMBER ? NaN : Number(written);
    const wrong = outOfBounds(boundsOf("train", option), value);
    if (wrong) refusals[`/training/${option}`] = wrong;
    else if (value !== defaultOf("train", option)) chosen[option] = value;
  }
  return Object.keys(refusals).length > 0 ? { refusals } : { chosen };
}

/** The fields; `values` holds what was changed. */
export function TrainingOptions({ prefix = "training", values, onChange }) {
  return html`<div class="options" id="${prefix}-options">
    ${optionsOf("train").map((option) => html`<${Option} key=${option} prefix=${prefix} option=${option} value=${values[option]}
      onValue=${(value) => onChange({ ...values, [option]: value })} />`)}
  </div>`;
}

function Option({ prefix, option, value, onValue }) {
  const id = `${prefix}-${option}`;
  const bounds = boundsOf("train", option);
  const [label, plain] = WORDS[option] ?? [option];
  const pointer = `/training/${option}`;
  const hint = hintOf(bounds, plain);
  const usual = defaultOf("train", option);
  if (bounds.type === "boolean") {
    return html`
      <${Field} id=${id} pointer=${pointer} hint=${hint} wide>
        <label class="check" for=${id}>
          <input type="checkbox" ...${controlOf(id, pointer, hint)} checked=${value ?? usual} onChange=${({ target }) => onValue(target.checked)} /> ${label}
        </label>
      <//>
    `;
  }
  return html`<${NumberField} id=${id} label=${label} option=${option} kind="train" pointer=${pointer} hint=${hint}
    placeholder="automatic" value=${value ?? usual ?? ""} onValue=${onValue} />`;
}

function hintOf(bounds, plain) {
  const range = bounds.type === "boolean" ? "" : boundsInWords(bounds);
  return [plain ?? bounds.description, range && `From ${range}.`.replace("From a", "A")].filter(Boolean).join(" ");
}
