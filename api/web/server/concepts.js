// The concepts that the server has.

import { listConcepts, listJobs } from "./api.js";
import { hasEnded } from "./events.js";
import { follow, jobOf } from "./jobs.js";
import { store } from "../shared/store.js";

/** Read them all again, page by page. */
export async function readConcepts() {
  const found = [];
  let cursor = null;
  do {
    const page = await listConcepts(cursor);
    found.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  store.concepts.value = found;
  store.conceptsRead.value = true;
}

/** Show the trainings that were going on before the page was loaded. */
export async function readTrainings() {
  for (const status of ["running", "queued"]) {
    const { items } = await listJobs({ kind: "train", status, limit: 20 });
    for (const job of items.reverse()) addTraining(job);
  }
}

/** Show a training, and read the concepts again when it ends. */
export function addTraining(job) {
  if (store.trainings.value.includes(job.id)) return;
  const now = follow(job);
  store.trainings.value = [job.id, ...store.trainings.value];
  const stop = now.subscribe((latest) => {
    if (!hasEnded(latest)) return;
    readConcepts().catch(() => {});
    setTimeout(() => stop());
  });
}

export const dismissTraining = (id) => {
  store.trainings.value = store.trainings.value.filter((each) => each !== id);
};

/** Whether a training of this concept waits or runs, as far as this page knows. */
export const isInTraining = (conceptId) =>
  store.trainings.value.some((id) => {
    const job = jobOf(id)?.value;
    return job && job.concept_id === conceptId && !hasEnded(job);
  });
