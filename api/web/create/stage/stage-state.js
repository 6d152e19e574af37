// What the stage shows, and the way from one image to the next.

import { jobNow } from "../../server/jobs.js";
import { store } from "../../shared/store.js";

/** Show a generation, or one of its images. @param {string} jobId @param {?number} index */
export function show(jobId, index = null) {
  store.compare.value = null;
  store.stage.value = { jobId, index };
  if (store.edit.value?.open) store.edit.value = { ...store.edit.value, open: false };
}

/** The images before and behind the one that is shown, through all that is in the film strip. */
export function neighbours() {
  const { jobId, index } = store.stage.value;
  const all = store.recent.value.ids.flatMap((id) => (jobNow(id)?.images ?? []).map((image, k) => ({ id, k, image })));
  const at = all.findIndex(({ id, k }) => id === jobId && k === (index ?? 0));
  return { before: at > 0 ? all[at - 1] : null, after: at >= 0 ? (all[at + 1] ?? null) : null };
}

/** Go to a neighbour; false where there is none. */
export function step(direction) {
  const { before, after } = neighbours();
  const next = direction < 0 ? before : after;
  if (next) show(next.id, next.k);
  return Boolean(next);
}

/** The job and the image that the stage shows alone, or null. */
export function shownImage() {
  const { jobId, index } = store.stage.value;
  const job = jobId ? jobNow(jobId) : null;
  if (!job) return null;
  const k = index ?? (job.images.length === 1 ? 0 : null);
  return k === null || !job.images[k] ? null : { job, image: job.images[k], k };
}
