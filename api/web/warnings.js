// What a job warns of while it goes on, in the server's words.

import { byId, el } from "./dom.js";

/** Show a job's warnings beside its images; unchanged ones are left alone, or they are read twice. */
export function showWarnings(job) {
  const list = byId("stage-warnings");
  const sentences = (job.warnings ?? []).map(({ detail }) => detail);
  const shown = [...list.children].map((item) => item.textContent);
  if (sentences.join("\n") === shown.join("\n")) return;
  list.replaceChildren(...sentences.map((sentence) => el("li", {}, sentence)));
}
