// The stage: what is asked for, while it forms and when it is there, as large as the room.

import { hasEnded } from "../../server/events.js";
import { jobOf } from "../../server/jobs.js";
import { html } from "../../shared/html.js";
import { JobProgress, Warnings } from "../../shared/job-progress.js";
import { Picture } from "../../shared/pictures.js";
import { store } from "../../shared/store.js";
import { count } from "../../shared/words.js";
import { Editor } from "../../edit/editor.js";
import { Welcome } from "../../welcome/welcome.js";
import { Compare } from "./compare.js";
import { GridView } from "../grid/view.js";
import { liveImage } from "../dials/live.js";
import { Single } from "./single.js";
import { show, shownImage, step } from "./stage-state.js";
import { Tiles } from "./tiles.js";

const MOVES = { ArrowLeft: -1, ArrowRight: 1 };

export function Stage() {
  const onKeyDown = (event) => {
    if (event.target.matches("input, textarea, select")) return;
    if (MOVES[event.key] && step(MOVES[event.key])) event.preventDefault();
    if (event.key === "Escape" && store.stage.value.index !== null) show(store.stage.value.jobId);
  };
  const job = jobOf(store.stage.value.jobId)?.value;
  const made = job && hasEnded(job) && job.images.length > 0 ? `${count(job.images.length, "image")} made.` : "";
  return html`
    <section class="stage" id="stage" tabindex="-1" aria-labelledby="stage-title" onKeyDown=${onKeyDown}>
      <h2 class="sr" id="stage-title">Stage</h2>
      <${Shown} />
      <p class="sr" role="status">${made}</p>
    </section>
  `;
}

function Shown() {
  if (store.edit.value?.open) return html`<${Editor} />`;
  if (store.live.value.on) return html`<${Live} />`;
  const job = jobOf(store.stage.value.jobId)?.value;
  if (!job) return html`<${Welcome} />`;
  const compared = store.compare.value;
  const alone = shownImage();
  return html`
    <div class="stage-head">
      <p class="stage-prompt" id="stage-prompt" title=${job.request?.prompt}>${job.request?.prompt ?? ""}</p>
      ${store.stage.value.index !== null && job.images.length > 1 && html`<button type="button" class="small" onClick=${() => show(job.id)}>All ${job.images.length} images</button>`}
      <label class="check" for="sharp">
        <input type="checkbox" id="sharp" checked=${store.sharp.value} onChange=${(event) => (store.sharp.value = event.target.checked)} />
        Sharp pixels
      </label>
    </div>
    <${Warnings} job=${job} />
    ${(!hasEnded(job) || job.images.length === 0) && html`<div class="over"><${JobProgress} key=${job.id} job=${job} what="Generation" /></div>`}
    ${compared ? html`<${Compare} />` : alone ? html`<${Single} ...${alone} />` : job.request?.sweep ? html`<${GridView} job=${job} />` : html`<${Tiles} job=${job} />`}
  `;
}

/** While a dial is live: the nearest image of its strip, then the sharp one. */
function Live() {
  const live = store.live.value;
  const shown = liveImage.value;
  const alone = shownImage();
  const address = shown?.image.url ?? alone?.image.url;
  return html`
    <div class="stage-head">
      <p class="stage-prompt">Drag the dial of <code>${`<${live.name}>`}</code>: the same image at another strength.</p>
      <p class="hint" role="status">${live.state || (shown ? (shown.sharp ? "Sharp" : "Quick look") : "")}</p>
    </div>
    <div class="single">
      <div class="single-frame" id="live-image" data-sharp=${shown?.sharp ? "yes" : undefined} aria-busy=${String(Boolean(live.state))}>
        ${address ? html`<${Picture} address=${address} alt="The image at the strength of the dial" />` : html`<span class="later"></span>`}
      </div>
    </div>
  `;
}
