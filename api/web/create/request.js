// The request that Create's fields make, checked before anything is sent.

import { boundsOf } from "../server/base-model.js";
import { settingOf, usedGates } from "../shared/draft.js";
import { readNumber } from "../shared/fields.js";
import { store } from "../shared/store.js";
import { readGrid } from "./grid/request.js";

export const NUMBERS = ["num_images", "num_inference_steps", "guidance_scale", "guidance_rescale", "width", "height"];
const SEEDS = { minimum: 0, maximum: 2 ** 32 - 1, above: null, below: null, multipleOf: null, type: "integer" };

/** `{body}`, or `{refusals}` by pointer. */
export function readRequest() {
  const { prompt, seed, settings } = store.draft.value;
  const body = { prompt, concepts: usedGates() };
  const refusals = {};
  if (!prompt.trim()) refusals["/prompt"] = "Describe the image.";
  for (const option of ["negative_prompt", "scheduler", "locking", "gates", "attention_maps"]) {
    if (settings[option] !== undefined) body[option] = settingOf(option);
  }
  const take = (option, text, bounds) => {
    const { value, refusal } = readNumber(text, bounds);
    if (refusal) refusals[`/${option}`] = refusal;
    else if (value !== undefined) body[option] = value;
  };
  for (const option of NUMBERS) take(option, settings[option], boundsOf("generate", option));
  take("seed", seed, SEEDS);
  const grid = store.grid.value && readGrid(store.grid.value);
  if (grid?.refusals) Object.assign(refusals, grid.refusals);
  else if (grid) Object.assign(body, { sweep: grid.sweep, num_images: 1 });
  return Object.keys(refusals).length > 0 ? { refusals } : { body };
}
