// The concepts that the server has, shared by the gallery, the prompt and the name check.

import { listConcepts } from "./api.js";

/** Tells `changed` after every refresh. */
export const conceptList = new EventTarget();

let concepts = [];

export const allConcepts = () => concepts;
export const findConcept = (name) => concepts.find((one) => one.name === name) ?? null;
export const conceptOfJob = (job) =>
  concepts.find((one) => one.id === job.concept_id || one.job_id === job.id) ?? null;

/** Read them all again, page by page. */
export async function refreshConcepts() {
  const found = [];
  let cursor = null;
  do {
    const page = await listConcepts(cursor);
    found.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  concepts = found;
  tellChanged();
}

/** Have what is drawn of concepts drawn anew. */
export const tellChanged = () => conceptList.dispatchEvent(new Event("changed"));
