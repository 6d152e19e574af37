// The trainings under way: phase, previews as a film strip, and what to do when one is ready.

import { finishJob } from "../server/api.js";
import { dismissTraining } from "../server/concepts.js";
import { hasEnded } from "../server/events.js";
import { jobOf } from "../server/jobs.js";
import { insertConcept } from "../shared/draft.js";
import { Face } from "../shared/face.js";
import { html, useState } from "../shared/html.js";
import { JobProgress, Warnings } from "../shared/job-progress.js";
import { conceptOfJob, notify, store } from "../shared/store.js";
import { qualityWord, statusWord } from "../shared/words.js";
import { PreviewFilm } from "./preview-film.js";

export function Trainings() {
  return html`<ul class="trainings" id="trainings" aria-label="Trainings">
    ${store.trainings.value.map((id) => html`<${Training} key=${id} id=${id} />`)}
  </ul>`;
}

function Training({ id }) {
  const [finishing, setFinishing] = useState(false);
  const job = jobOf(id)?.value;
  if (!job) return null;
  const concept = conceptOfJob(job);
  const placeholder = concept?.placeholder ?? "A concept";
  const over = hasEnded(job);
  const finish = async () => {
    if (finishing) return;
    setFinishing(true);
    try {
      await finishJob(id);
      notify("The best state so far is kept and measured.");
    } catch (error) {
      setFinishing(false);
      notify(error.message);
    }
  };
  const started = (job.progress?.step ?? 0) > 0;
  return html`
    <li class="card training">
      ${concept ? html`<${Face} concept=${concept} />` : html`<span></span>`}
      <div class="stack tight">
        <p class="training-head">
          <strong>${placeholder}</strong> ${concept?.superclass ?? ""} <span class="pill" data-status=${job.status}>${statusWord(job.status)}</span>
          ${over && job.status === "succeeded" && concept?.verdict && html` <span class="pill" data-quality=${concept.verdict.quality}>${qualityWord(concept.verdict.quality)}</span>`}
        </p>
        <${JobProgress} job=${job} what="Training of ${placeholder}">
          ${started && job.status === "running" && html`<button type="button" class="quiet small" aria-disabled=${finishing ? "true" : undefined} onClick=${finish}>Finish now</button>`}
        <//>
        <${PreviewFilm} job=${job} name=${placeholder} />
        <${Warnings} job=${job} />
        ${over && html`<div class="row">
          ${job.status === "succeeded" && concept && html`<button type="button" class="primary small" onClick=${() => insertConcept(concept.name)}>Use ${placeholder}</button>`}
          <button type="button" class="quiet small" aria-label="Dismiss the training of ${placeholder}" onClick=${() => dismissTraining(id)}>Dismiss</button>
        </div>`}
      </div>
    </li>
  `;
}
