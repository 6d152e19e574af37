// The film strip: recent generations from the server, so that they survive a reload.

import { hasEnded } from "../../server/events.js";
import { jobOf, readOlder } from "../../server/jobs.js";
import { html } from "../../shared/html.js";
import { LazyPicture } from "../../shared/pictures.js";
import { notify, store } from "../../shared/store.js";
import { ago, progressLine, statusWord } from "../../shared/words.js";
import { chooseOther } from "./compare-state.js";
import { show } from "./stage-state.js";

export function Film() {
  const { ids, cursor } = store.recent.value;
  if (ids.length === 0) return null;
  const older = () => readOlder().catch((error) => notify(error.message));
  return html`
    <nav class="film" aria-label="Recent generations">
      <ul id="film">
        ${ids.map((id, n) => html`<${Frame} key=${id} id=${id} n=${n} />`)}
        ${cursor && html`<li><button type="button" class="frame more" onClick=${older}>Show older</button></li>`}
      </ul>
    </nav>
  `;
}

function Frame({ id, n }) {
  const job = jobOf(id)?.value;
  // A generation whose images were all deleted leaves no empty frame.
  if (!job || (job.status === "succeeded" && job.images.length === 0)) return null;
  const prompt = job.request?.prompt ?? "";
  const current = store.stage.value.jobId === id;
  const [first] = job.images;
  const count = job.images.length > 1 ? `${job.images.length} images` : "";
  const state = hasEnded(job) ? (first ? ago(job.created_at) : statusWord(job.status)) : progressLine(job);
  const words = [prompt, count, state].filter(Boolean).join(", ");
  const choose = () => (store.compare.value?.choosing ? chooseOther(job, 0) : show(id));
  const drag = (event) => first && event.dataTransfer.setData("application/x-perfusion-image", first.id);
  return html`
    <li data-status=${job.status}>
      <button type="button" class="frame" aria-label="${n + 1}: ${words}" title=${words} aria-current=${current ? "true" : undefined}
        draggable=${Boolean(first)} onDragStart=${drag} onClick=${choose}>
        ${first && html`<${LazyPicture} address=${first.thumbnail_url} />`}
        ${!first && job.preview && html`<img src=${job.preview} alt="" />`}
        ${!first && !job.preview && html`<span>${hasEnded(job) ? statusWord(job.status) : percent(job)}</span>`}
        ${count && html`<span class="count">${job.images.length}</span>`}
      </button>
    </li>
  `;
}

const percent = ({ progress }) =>
  progress?.total_steps ? `${Math.round((100 * progress.step) / progress.total_steps)} %` : "…";
