// What can be done with a concept: teach it again, go back, rename, download, delete, import.

import { changeConcept, conceptFile, deleteConcept, importConcept, revertConcept, trainAgain } from "../server/api.js";
import { addTraining, isInTraining, readConcepts } from "../server/concepts.js";
import { ended } from "../server/jobs.js";
import { confirmed } from "../shared/confirm.js";
import { saveBlob } from "../shared/download.js";
import { signal } from "../shared/html.js";
import { problemText } from "../shared/job-progress.js";
import { notify } from "../shared/store.js";
import { slug } from "../shared/words.js";

/** What went wrong with the last thing that was done here. */
export const alert = signal("");
/** What is said of the last thing that was done here. */
export const said = signal("");

/** Do something, then read the concepts again; show an error of the server above the cards. */
export async function attempt(action) {
  alert.value = "";
  try {
    await action();
  } catch (error) {
    alert.value = error.message;
  }
  await readConcepts().catch(() => {});
}

/** Train the same photos again; the old file serves until the new one is better. */
export const teachAgain = ({ id }, options = {}) =>
  attempt(async () => {
    const { job } = await trainAgain(id, options);
    await readConcepts();
    addTraining(job);
  });

export const goBack = ({ id, name }) =>
  attempt(async () => {
    await revertConcept(id);
    said.value = `${name} is what it was before.`;
  });

export async function rename({ id, name }) {
  const written = await confirmed({
    title: `Rename <${name}>`,
    text: "Prompts need the new name from then on. Images already made are found by both.",
    yes: "Rename",
    no: "Cancel",
    field: { label: "New name", value: name },
  });
  if (!written || slug(written) === name) return;
  await attempt(async () => {
    const changed = await changeConcept(id, { name: slug(written) });
    said.value = `${name} is called ${changed.name} now.`;
  });
}

export const download = ({ id, name }, format) =>
  attempt(async () => {
    const ending = { perfusion: "safetensors", lora: "lora.safetensors", embedding: "embedding.safetensors", zip: "zip" }[format];
    saveBlob(await conceptFile(id, format), `${name}.${ending}`);
  });

export async function remove({ id, name, placeholder, status }) {
  const training = status === "training" || isInTraining(id) ? "Its training stops. " : "";
  const sure = await confirmed({
    title: `Delete ${placeholder}?`,
    text: `${training}Its photos and its file go for good. Images already made stay.`,
    yes: "Delete",
  });
  if (!sure) return;
  await attempt(async () => {
    await deleteConcept(id);
    said.value = `${name} was deleted.`;
  });
}

/** Import a file; a taken name is asked for again, and so is what a sibling base model means. */
export async function importFile(file) {
  const data = new FormData();
  data.append("file", file, file.name);
  await attempt(async () => {
    const imported = await sendFile(data);
    if (!imported) return;
    const { concept = imported, job = null } = imported;
    await readConcepts();
    said.value = `${concept.name} was imported.`;
    if (job) ended(job).then((now) => tellJudged(concept, now));
  });
}

async function sendFile(data) {
  for (;;) {
    try {
      return await importConcept(data);
    } catch (error) {
      const adapt = error.errors.some(({ pointer }) => pointer === "/adapt");
      if (adapt && !data.has("adapt")) {
        const sure = await confirmed({ title: "Import it anyway?", text: error.message, yes: "Import anyway", no: "Cancel", danger: false });
        if (!sure) return null;
        data.append("adapt", "true");
      } else if (error.type.endsWith("/name-taken")) {
        const name = await confirmed({
          title: "Import it under another name",
          text: error.message,
          yes: "Import",
          no: "Cancel",
          field: { label: "Name", value: "" },
        });
        if (!name) return null;
        data.set("name", slug(name));
      } else throw error;
    }
  }
}

async function tellJudged({ name }, job) {
  await readConcepts().catch(() => {});
  const unmeasured = (job.warnings ?? []).find(({ type }) => type.endsWith("/not-judged"));
  const measured = job.status === "succeeded" ? `${name} was measured here.` : problemText(job);
  said.value = unmeasured ? `${name}: ${unmeasured.detail}` : measured;
  notify(said.value);
}
