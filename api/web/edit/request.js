// What an edit sends, and what it began with.

import { maskFile, onlyBoxes } from "./strokes.js";

/** By job: what the picture was before. @type {Map<string, {address?: string, url?: string}>} */
const before = new Map();

/** The files of the form: the photo, and the mask where it is more than boxes. */
export async function editFiles(edit) {
  const painted = edit.strokes.length > 0 && !onlyBoxes(edit.strokes);
  return { image: edit.file, mask_image: painted ? await maskFile(edit.strokes, edit) : null };
}

/** How much changes if nothing is chosen, as the server has it. */
export const usualDenoising = ({ strokes }) => (strokes.length > 0 ? 1 : 0.7);

/** The fields of the request. */
export function editOptions({ imageId, strokes, denoising, feather, margin, keepBackground }) {
  const options = {};
  if (imageId) options.image = { image_id: imageId };
  if (onlyBoxes(strokes)) options.mask = { boxes: strokes.map(({ box }) => box) };
  if (denoising !== "") options.denoising_strength = Number(denoising);
  if (strokes.length > 0) {
    if (feather !== "") options.mask_feather = Number(feather);
    if (margin !== "") options.mask_margin = Number(margin);
    if (keepBackground) options.keep_background = true;
  }
  return options;
}

export const rememberBefore = (jobId, { url }) => before.set(jobId, { url });

/** What an image was made from, or null: a photo is only known to the tab that sent it. */
export function beforeOf(job) {
  const imageId = job.request?.edit?.image_id;
  return before.get(job.id) ?? (imageId ? { address: `/images/${imageId}` } : null);
}
