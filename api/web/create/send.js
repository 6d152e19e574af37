// Asking for images: what is wrong is said at once, what is sent is on the stage at once.

import { generate } from "../server/api.js";
import { addRecent, ended } from "../server/jobs.js";
import { goToRefusal, showRefusals } from "../shared/fields.js";
import { restore } from "../shared/draft.js";
import { store } from "../shared/store.js";
import { beforeOf, editFiles, editOptions, rememberBefore } from "../edit/request.js";
import { compareEdit } from "./stage/compare-state.js";
import { stopLive } from "./dials/live.js";
import { readRequest } from "./request.js";
import { show } from "./stage/stage-state.js";

const form = () => /** @type {HTMLElement} */ (document.getElementById("create-form"));

/** Send what the fields say. */
export async function send() {
  if (store.sending.value) return;
  const { body, refusals } = readRequest();
  store.refusals.value = refusals ?? {};
  if (!body) {
    goToRefusal(form());
    return;
  }
  stopLive();
  const edit = store.edit.value;
  store.sending.value = true;
  try {
    const files = edit ? await editFiles(edit) : { image: null, mask_image: null };
    const { job } = await generate(edit ? { ...withoutSize(body, files), ...editOptions(edit) } : body, files);
    addRecent(job);
    show(job.id);
    // On a phone the fields lie below the stage.
    document.getElementById("stage")?.scrollIntoView({ block: "nearest" });
    if (edit) {
      rememberBefore(job.id, edit);
      ended(job).then(showChange);
    }
  } catch (error) {
    showRefusals(form(), error);
  } finally {
    store.sending.value = false;
  }
}

/** Before and after, if the edit is still looked at and made one image. */
function showChange(job) {
  const before = beforeOf(job);
  if (before && job.images.length === 1 && store.stage.value.jobId === job.id) compareEdit(before, job.images[0]);
}

// A masked edit has the size of its picture.
/** @param {any} body */
function withoutSize({ width, height, ...body }, { mask_image: mask }) {
  return mask ? body : { ...body, width, height };
}

/** The same request once more, with other seeds. */
export function again(request) {
  restore(request, "");
  return send();
}

/** Four images near this one: the image itself, changed by half. */
export async function vary(image, request) {
  try {
    const { prompt, negative_prompt, concepts, num_inference_steps, guidance_scale, scheduler, locking, gates } = request;
    const gatesUsed = concepts.map(({ name, beta, tau }) => ({ name, beta, tau }));
    const { job } = await generate({
      prompt, negative_prompt, num_inference_steps, guidance_scale, scheduler, locking, gates,
      concepts: gatesUsed,
      num_images: 4,
      image: { image_id: image.id },
      denoising_strength: 0.6,
      width: image.width,
      height: image.height,
    });
    addRecent(job);
    show(job.id);
  } catch (error) {
    showRefusals(form(), error);
  }
}
