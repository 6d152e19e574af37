// The gallery of concepts: look, use, teach again, go back, download, delete, import.

import { conceptFile, deleteConcept, getJob, importConcept } from "./api.js";
import { attempt, button, secondChances } from "./concept-actions.js";
import { allConcepts, conceptList, refreshConcepts } from "./concept-list.js";
import { confirmed } from "./confirm.js";
import { byId, el, say } from "./dom.js";
import { saveBlob } from "./download.js";
import { face } from "./face.js";
import { problemText } from "./job-progress.js";
import { insertConcept } from "./reuse.js";
import { isInTraining } from "./trainings.js";
import { fileSize, qualityWord, stateWord } from "./words.js";

const MASKS = {
  upload: "your own masks",
  alpha: "masks from transparency",
  segmenter: "masks found by itself",
  uniform: "not every photo has a mask",
};

const cards = new Map();

/** Wire the gallery. */
export function startConcepts() {
  conceptList.addEventListener("changed", draw);
  byId("import").addEventListener("click", () => byId("import-file").click());
  byId("import-file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) importFile(file);
  });
}

function draw() {
  const concepts = allConcepts();
  for (const { id } of cards.values()) {
    if (!concepts.some((one) => one.id === id)) cards.delete(id);
  }
  // A card is drawn again only when its concept changed: its picture must not flicker.
  const items = concepts.map((concept) => {
    const look = JSON.stringify([concept, isInTraining(concept.id)]);
    const known = cards.get(concept.id);
    if (known?.look === look) return known.item;
    const item = card(concept);
    cards.set(concept.id, { id: concept.id, look, item });
    return item;
  });
  byId("gallery").replaceChildren(...items);
  byId("gallery-empty").hidden = items.length > 0;
}

function card(concept) {
  const { id, name, placeholder, superclass, status, usable, bytes } = concept;
  const actions = el("div", { class: "card-actions" });
  if (usable) actions.append(button("Use", `Use ${placeholder} in a prompt`, () => insertConcept(name)));
  if (status === "ready") {
    actions.append(button("Download", `Download the file of ${placeholder}`, () => download(concept)));
  }
  const again = status === "ready" && isInTraining(id);
  if (!again) actions.append(...secondChances(concept));
  actions.append(button("Delete", `Delete ${placeholder}`, () => remove(concept), "quiet"));
  const facts = [superclass, bytes ? fileSize(bytes) : null].filter(Boolean).join(" · ");
  const reason = el("p", { class: "error", hidden: true });
  if (status === "failed") tellReason(concept, reason);
  else if (status === "ready" && !usable) say(reason, concept.reason);
  return el(
    "li",
    { class: "concept", dataset: { name } },
    face(concept),
    el(
      "div",
      { class: "concept-body" },
      el("p", { class: "concept-name" }, el("code", {}, placeholder)),
      el("p", { class: "hint" }, facts),
      usable ? null : el("span", { class: "pill", dataset: { status } }, stateWord(concept)),
      again ? el("span", { class: "pill", dataset: { status: "training" } }, "training again") : null,
      concept.verdict ? verdictOf(concept.verdict) : null,
      MASKS[concept.mask_source] ? el("p", { class: "hint" }, MASKS[concept.mask_source]) : null,
      reason,
      actions,
    ),
  );
}

/** What the server thinks of the concept; good news may be folded, advice may not. */
function verdictOf({ quality, reasons }) {
  return el(
    "details",
    { class: "verdict", open: quality !== "good", dataset: { quality } },
    el("summary", {}, el("span", { class: "sr" }, "Verdict: "), el("span", { class: "pill" }, qualityWord(quality))),
    ...reasons.map((reason) => el("p", { class: "hint" }, reason)),
  );
}

async function tellReason({ job_id: jobId }, place) {
  const job = jobId ? await getJob(jobId).catch(() => null) : null;
  say(place, job ? problemText(job) : "");
}

async function download({ id, name }) {
  await attempt(async () => saveBlob(await conceptFile(id), `${name}.safetensors`));
}

async function remove({ id, name, placeholder, status }) {
  const training = status === "training" || isInTraining(id) ? "Its training stops. " : "";
  const sure = await confirmed({
    title: `Delete ${placeholder}?`,
    text: `${training}Its photos and its file go for good. Images already made stay.`,
    yes: "Delete",
  });
  if (!sure) return;
  await attempt(async () => {
    await deleteConcept(id);
    byId("concepts-status").textContent = `${name} was deleted.`;
    byId("import").focus();
  });
  await refreshConcepts();
}

async function importFile(file) {
  const data = new FormData();
  data.append("file", file, file.name);
  await attempt(async () => {
    const concept = await importConcept(data);
    await refreshConcepts();
    byId("concepts-status").textContent = `${concept.name} was imported.`;
  });
}
