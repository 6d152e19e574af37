// The stage before anything is on it: what this is in four sentences, and the server's own toys.

import { insertConcept } from "../shared/draft.js";
import { html } from "../shared/html.js";
import { JobProgress, Warnings } from "../shared/job-progress.js";
import { jobOf } from "../server/jobs.js";
import { hasEnded } from "../server/events.js";
import { addressOf, go } from "../shared/router.js";
import { concepts, conceptOfJob, store } from "../shared/store.js";
import { PreviewFilm } from "../teach/preview-film.js";
import { TOYS, teachToys } from "./toys.js";

const TOUR = [
  ["Teach", "Show one to twenty photos of one thing, and give it a name."],
  ["Ask", "Write that name in a prompt, such as <rex> on the beach, alone or with others."],
  ["Dial", "Turn its strength between what the prompt says and what your photos show, and watch the same image change."],
  ["Keep", "Compare, edit and collect images in the gallery; a concept is one small file that you can take along."],
];

export function Welcome() {
  if (store.toys.value) return html`<${Learning} />`;
  const empty = store.conceptsRead.value && concepts().length === 0;
  const reading = !store.conceptsRead.value;
  return html`
    <div class="welcome" id="stage-blank">
      <div class="welcome-words">
        <h2>Teach it your things. Put them anywhere.</h2>
        <ol class="tour">
          ${TOUR.map(([word, sentence]) => html`<li key=${word}><strong>${word}</strong> ${sentence}</li>`)}
        </ol>
        ${!reading && empty && html`<${Begin} />`}
        ${!reading && !empty && html`<p class="hint">Pick a concept, write a prompt and press Generate: your images appear here.</p>`}
      </div>
      <img class="hero" src="web/hero.svg" alt="" width="420" height="230" />
    </div>
  `;
}

function Begin() {
  const ready = store.connection.value.state === "ready";
  return html`
    <div class="begin">
      <div class="toy-photos" aria-hidden="true">
        ${TOYS.map(({ name }) => html`<img key=${name} src="web/toys/${name}-0.webp" alt="" width="96" height="96" />`)}
      </div>
      <div class="row">
        <button type="button" class="primary big" id="teach-toys" disabled=${!ready} onClick=${teachToys}>Try it with two toys</button>
        <a class="button big" href=${addressOf("concepts")}>Use my own photos</a>
      </div>
      <p class="hint">One press teaches the toys rex and bruno from five drawn photos each, and draws their first images.</p>
    </div>
  `;
}

/** While the toys are learned: their photos, how far it is, and what it looks like so far. */
function Learning() {
  return html`
    <div class="welcome learning" id="stage-blank">
      <h2>Teaching two toys</h2>
      <p class="hint">The first images come by themselves as soon as a toy is learned. Look around meanwhile: nothing is lost.</p>
      ${store.trainings.value.map((id) => html`<${Toy} key=${id} id=${id} />`)}
      ${store.toys.value.problem && html`<p class="alert" role="alert">${store.toys.value.problem}</p>`}
      <div class="row"><button type="button" class="small" onClick=${() => go("concepts")}>Watch in Concepts</button></div>
    </div>
  `;
}

function Toy({ id }) {
  const job = jobOf(id)?.value;
  const concept = job && conceptOfJob(job);
  if (!concept || !TOYS.some(({ name }) => name === concept.name)) return null;
  return html`
    <div class="toy card">
      <div class="toy-photos" aria-hidden="true">
        ${[0, 1, 2, 3, 4].map((k) => html`<img key=${k} src="web/toys/${concept.name}-${k}.webp" alt="" width="64" height="64" />`)}
      </div>
      <p><code>${concept.placeholder}</code> a ${concept.superclass}</p>
      <${JobProgress} job=${job} what="Training of ${concept.placeholder}" />
      <${PreviewFilm} job=${job} />
      <${Warnings} job=${job} />
      ${hasEnded(job) && concept.usable && html`<button type="button" class="small" onClick=${() => insertConcept(concept.name)}>Use ${concept.placeholder}</button>`}
    </div>
  `;
}
