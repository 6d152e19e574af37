// Every job that the page knows, as a signal that follows it.

import { deleteJob, listJobs } from "./api.js";
import { hasEnded, watchJob } from "./events.js";
import { signal } from "../shared/html.js";
import { renewed } from "../shared/pages.js";
import { store } from "../shared/store.js";

/** @typedef {import("./types.js").Job} Job */

const PAGE = 18;
/** @type {Map<string, import("../vendor/signals-core.js").Signal>} */
const known = new Map();

/** The job's signal, or null for one that was never seen. */
export const jobOf = (id) => known.get(id) ?? null;
/** @returns {?Job} */
export const jobNow = (id) => known.get(id)?.value ?? null;

/** Know a job and follow it to its end; its signal. */
export function follow(job) {
  const present = known.get(job.id);
  if (present) {
    // Its images may have been deleted elsewhere meanwhile.
    if (hasEnded(job)) present.value = job;
    return present;
  }
  const now = signal(job);
  known.set(job.id, now);
  watchJob(job, (latest) => {
    now.value = hasEnded(latest) ? latest : { ...latest, ...keptPreviews(now.peek(), latest) };
  });
  return now;
}

/** The last preview of an image stays until the image is there, also while others are sampled. */
function keptPreviews(before, latest) {
  const kept = before.previews ?? [];
  return {
    preview: latest.preview ?? before.preview,
    previews: latest.previews?.map((preview, k) => preview ?? kept[k] ?? null) ?? kept,
  };
}

/** What image number k of a job looks like while it forms; a single one has the large preview. */
export const formingAt = ({ preview, previews }, k) => (previews?.length === 1 ? preview : previews?.[k]) ?? "";

/** The job's last state, once it has ended. */
export function ended(job) {
  return new Promise((done) => {
    const stop = watchJob(job, (now) => {
      if (!hasEnded(now)) return;
      done(now);
      setTimeout(() => stop());
    });
  });
}

/** Read the newest generations again; older ones that were read before stay behind them. */
export async function readRecent() {
  const page = await listJobs({ kind: "generate", limit: PAGE });
  for (const job of page.items) follow(job);
  const { ids, cursor: before } = store.recent.value;
  const { items, cursor } = renewed(page, { items: ids.map((id) => ({ id })), cursor: before });
  store.recent.value = { ids: items.map(({ id }) => id), cursor, read: true };
  return page.items;
}

/** Read older ones behind those in the film strip. */
export async function readOlder() {
  const { ids, cursor } = store.recent.value;
  const page = await listJobs({ kind: "generate", limit: PAGE, cursor });
  for (const job of page.items) follow(job);
  const more = page.items.map(({ id }) => id).filter((id) => !ids.includes(id));
  store.recent.value = { ids: [...ids, ...more], cursor: page.next_cursor, read: true };
}

/** Put a generation that was just asked for in front. */
export function addRecent(job) {
  follow(job);
  const { ids, ...others } = store.recent.value;
  store.recent.value = { ...others, ids: [job.id, ...ids.filter((id) => id !== job.id)], read: true };
}

/** Forget a job here and on the server. */
export async function removeJob(id) {
  await deleteJob(id);
  forgetJob(id);
}

function forgetJob(id) {
  const { ids, ...others } = store.recent.value;
  store.recent.value = { ...others, ids: ids.filter((each) => each !== id) };
  if (store.stage.value.jobId === id) store.stage.value = { jobId: null, index: null };
}

/** Images that were deleted go from everything that shows them; a job without images goes from the film strip. */
export function forgetImages(gone) {
  for (const [id, job] of known) {
    const images = job.peek().images.filter((image) => !gone.has(image.id));
    if (images.length === job.peek().images.length) continue;
    job.value = { ...job.peek(), images };
    if (images.length === 0) forgetJob(id);
  }
  const { items, ...others } = store.gallery.value;
  store.gallery.value = { ...others, items: items.filter(({ id }) => !gone.has(id)) };
  store.selected.value = store.selected.value.filter((id) => !gone.has(id));
  store.favourites.value = store.favourites.value.filter((id) => !gone.has(id));
}
