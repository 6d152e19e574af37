// Create: the prompt and its settings become a job, the job becomes images.

import { generate } from "./api.js";
import { byId, reveal } from "./dom.js";
import { clearErrors, clearFieldProblem, showFieldProblem, showProblem } from "./field-errors.js";
import { rememberRequest } from "./history.js";
import { promptText, startPromptBox } from "./prompt-box.js";
import { chosenSettings, startSettings } from "./settings.js";
import { showJob } from "./stage.js";
import { startStrengths, usedConcepts } from "./strengths.js";

/** Wire the form. */
export function startCreate() {
  startPromptBox(() => byId("create-form").requestSubmit());
  startStrengths();
  startSettings();
  byId("prompt").addEventListener("input", () => clearFieldProblem(byId("prompt")));
  byId("create-form").addEventListener("submit", (event) => {
    event.preventDefault();
    create();
  });
}

async function create() {
  const form = byId("create-form");
  const alert = byId("create-alert");
  const button = byId("generate");
  if (button.disabled) return;
  clearErrors(form, alert);
  if (!promptText().trim()) {
    showFieldProblem(byId("prompt"), "Describe the image.");
    byId("prompt").focus();
    return;
  }
  const settings = chosenSettings();
  if (settings === null) return;
  button.disabled = true;
  try {
    const body = { prompt: promptText(), concepts: usedConcepts(), ...settings };
    const { job } = await generate(body);
    rememberRequest(job, body);
    showJob(job, body);
    reveal(byId("stage"), "nearest");
  } catch (error) {
    showProblem(form, alert, error);
  } finally {
    button.disabled = false;
  }
}
