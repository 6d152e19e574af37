// Teach: photos, a name and a plain word become a concept in training.

import { createConcept, listJobs } from "./api.js";
import { conceptOfJob, findConcept, refreshConcepts } from "./concept-list.js";
import { byId, reveal, say } from "./dom.js";
import { clearErrors, clearFieldProblem, showFieldProblem, showProblem } from "./field-errors.js";
import {
  appendPictures,
  clearPictureErrors,
  clearPictures,
  firstPicture,
  pictureCount,
  showPictureError,
  startPictures,
} from "./pictures.js";
import { addTraining } from "./trainings.js";
import { chosenTraining, drawTrainingOptions } from "./training-options.js";
import { slug } from "./words.js";

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** Wire the form. */
export function startTeach() {
  startPictures();
  byId("name").addEventListener("input", judgeName);
  byId("superclass").addEventListener("input", () => clearFieldProblem(byId("superclass")));
  byId("name-suggest").addEventListener("click", takeSuggestion);
  byId("teach-form").addEventListener("submit", (event) => {
    event.preventDefault();
    teach();
  });
}

/** Show the trainings that were going on before the page was loaded. */
export async function resumeTrainings() {
  for (const status of ["running", "queued"]) {
    const { items } = await listJobs({ kind: "train", status, limit: 20 });
    for (const job of items.reverse()) addTraining(job, conceptOfJob(job));
  }
}

function judgeName() {
  const input = byId("name");
  const suggest = byId("name-suggest");
  const name = input.value;
  clearFieldProblem(input);
  const better = slug(name);
  say(suggest, name && !NAME.test(name) && better ? `Use ${better}` : "");
  suggest.dataset.name = better;
  if (NAME.test(name) && findConcept(name)) showFieldProblem(input, `You already have a concept called ${name}.`);
  const shown = NAME.test(name) ? name : better;
  byId("name-hint").textContent = shown
    ? `In a prompt you will write <${shown}>.`
    : "Small letters, digits and hyphens.";
}

function takeSuggestion() {
  byId("name").value = byId("name-suggest").dataset.name;
  judgeName();
  byId("name").focus();
}

/** The first field that the server would refuse anyway, with its words shown; or null. */
function firstMistake() {
  const wrong = [];
  const refuse = (control, text) => {
    showFieldProblem(control, text);
    wrong.push(control);
  };
  if (pictureCount() === 0) refuse(byId("pictures"), "Add at least one photo.");
  if (!byId("name").value) refuse(byId("name"), "Give the concept a name.");
  else if (!NAME.test(byId("name").value)) {
    refuse(byId("name"), "A name is up to 63 small letters, digits and hyphens, and starts with a letter or digit.");
  }
  const words = byId("superclass").value.trim().split(/\s+/).filter(Boolean);
  if (words.length === 0) refuse(byId("superclass"), "Say what kind of thing it is.");
  if (words.length > 3) refuse(byId("superclass"), "Use one to three words.");
  return wrong[0] ?? null;
}

async function teach() {
  const form = byId("teach-form");
  const alert = byId("teach-alert");
  const button = byId("train");
  clearErrors(form, alert);
  clearPictureErrors();
  const mistake = firstMistake();
  if (mistake) return mistake.focus();
  const training = chosenTraining();
  if (training === null) return;
  button.disabled = true;
  button.textContent = "Sending photos";
  try {
    const data = new FormData();
    await appendPictures(data);
    data.append("name", byId("name").value);
    data.append("superclass", byId("superclass").value.trim());
    if (Object.keys(training).length > 0) data.append("training", JSON.stringify(training));
    const { concept, job } = await createConcept(data);
    const item = addTraining(job, concept, firstPicture());
    clearPictures();
    form.reset();
    drawTrainingOptions();
    byId("training-details").open = false;
    judgeName();
    reveal(item, "nearest");
    refreshConcepts();
  } catch (error) {
    if (error.status === 413) error.message += " Use fewer or smaller photos.";
    showProblem(form, alert, error, placePictureError);
  } finally {
    button.disabled = false;
    button.textContent = "Train";
  }
}

function placePictureError(pointer, detail) {
  const [, part, n] = /^\/(images|masks)\/(\d+)/.exec(pointer) ?? [];
  return part ? showPictureError(Number(n), part === "masks" ? `Mask: ${detail}` : detail) : null;
}
