// The trainings under way: progress, a preview picture, and what to do when one is ready.

import { refreshConcepts, tellChanged } from "./concept-list.js";
import { byId, el } from "./dom.js";
import { hasEnded } from "./events.js";
import { face } from "./face.js";
import { newPreview } from "./image-cache.js";
import { jobProgress } from "./job-progress.js";
import { insertConcept } from "./reuse.js";
import { statusWord } from "./words.js";

// The server draws a preview now and then; asking after each sixteenth of the way misses none.
const PREVIEWS = 16;
const PREVIEW_EVERY_MS = 2000;
const shown = new Map();
const underWay = new Map();

/** Whether a training of this concept is waiting or running, as far as this page knows. */
export const isInTraining = (conceptId) => [...underWay.values()].includes(conceptId);

/**
 * Follow a training in the list under the form; returns its element. `photo` is looked at until
 * the first preview comes; after a reload there is none, and a letter stands in.
 */
export function addTraining(job, concept, photo = null) {
  if (shown.has(job.id)) return shown.get(job.id);
  const placeholder = concept?.placeholder ?? "A concept";
  const image = el("img", { alt: "", hidden: photo === null });
  if (photo) image.src = URL.createObjectURL(photo);
  const state = el("span", { class: "pill" });
  const after = el("div", { class: "row", hidden: true });
  const warnings = el("ul", { class: "warnings", "aria-live": "polite" });
  underWay.set(job.id, job.concept_id);
  const refreshPreview = previewRefresher(image, job.id, placeholder);

  const { element } = jobProgress(job, {
    what: `Training of ${placeholder}`,
    onChange(now) {
      state.textContent = statusWord(now.status);
      state.dataset.status = now.status;
      refreshPreview(now);
      if (hasEnded(now)) end(now);
    },
  });
  const item = el(
    "li",
    { class: "card training" },
    el("div", { class: "preview" }, face(concept ?? { name: "?" }), image),
    el(
      "div",
      { class: "stack tight" },
      el("p", { class: "training-head" }, el("strong", {}, placeholder), " ", concept?.superclass ?? "", " ", state),
      element,
      warnings,
      after,
    ),
  );
  shown.set(job.id, item);
  byId("trainings").prepend(item);
  tellChanged();
  return item;

  function end(now) {
    underWay.delete(job.id);
    warnings.replaceChildren(...(now.warnings ?? []).map(({ detail }) => el("li", {}, detail)));
    const use = el(
      "button",
      { type: "button", class: "primary", onclick: () => insertConcept(concept.name) },
      `Use ${placeholder}`,
    );
    const dismiss = el("button", { type: "button", class: "quiet", onclick: () => item.remove() }, "Dismiss");
    after.replaceChildren(...(now.status === "succeeded" && concept ? [use] : []), dismiss);
    after.hidden = false;
    refreshConcepts();
  }
}

function previewRefresher(image, jobId, placeholder) {
  let lastTime = 0;
  let lastPart = 0;
  return async (job) => {
    const { step = 0, total_steps: total } = job.progress ?? {};
    const part = total ? Math.floor((PREVIEWS * step) / total) : 0;
    const due = part > lastPart && Date.now() - lastTime > PREVIEW_EVERY_MS;
    if (!step || !(due || hasEnded(job))) return;
    lastTime = Date.now();
    lastPart = part;
    const url = await newPreview(jobId);
    if (!url) return;
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = url;
    image.alt = `Preview of ${placeholder}`;
    image.hidden = false;
  };
}
