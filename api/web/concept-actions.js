// Two actions of a concept's card: teach it again, and go back to the file before.

import { revertConcept, trainAgain } from "./api.js";
import { refreshConcepts } from "./concept-list.js";
import { byId, el, reveal, say } from "./dom.js";
import { showAlert } from "./field-errors.js";
import { addTraining } from "./trainings.js";

/** A small button of a card; `label` begins with `text` and names the concept. */
export function button(text, label, onclick, style = "") {
  return el("button", { type: "button", class: `small ${style}`, "aria-label": label, onclick }, text);
}

/** Do something; show an error of the server above the cards. */
export async function attempt(action) {
  const alert = byId("concepts-alert");
  say(alert, "");
  try {
    await action();
  } catch (error) {
    showAlert(alert, error);
  }
}

/** Teaching again stands out where a concept is weak, overfit or not usable; an imported one has no photos. */
export function secondChances(concept) {
  const { placeholder, status, usable, verdict, job_id: jobId, has_file_before: before } = concept;
  const buttons = [];
  if (jobId && status !== "training") {
    const poor = ["weak", "overfit"].includes(verdict?.quality);
    const style = poor || !usable ? "primary" : "";
    buttons.push(button("Teach again", `Teach again ${placeholder}`, () => teachAgain(concept), style));
  }
  if (before) buttons.push(button("Go back", `Go back to the ${placeholder} before`, () => goBack(concept)));
  return buttons;
}

async function teachAgain({ id }) {
  await attempt(async () => {
    const { concept, job } = await trainAgain(id);
    reveal(addTraining(job, concept), "nearest");
  });
  await refreshConcepts();
}

async function goBack({ id, name }) {
  await attempt(async () => {
    await revertConcept(id);
    byId("concepts-status").textContent = `${name} is what it was before.`;
  });
  await refreshConcepts();
}
