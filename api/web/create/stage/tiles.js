// All images of a generation: a placeholder for each, a preview while they form, then the images.

import { hasEnded } from "../../server/events.js";
import { formingAt } from "../../server/jobs.js";
import { html } from "../../shared/html.js";
import { Picture } from "../../shared/pictures.js";
import { Favourite } from "../favourite.js";
import { show } from "./stage-state.js";

export function Tiles({ job }) {
  const { images } = job;
  const over = hasEnded(job);
  const wanted = job.request?.num_images ?? 1;
  if (over && images.length === 0) return null;
  const count = over ? images.length : wanted;
  const side = Math.ceil(Math.sqrt(count));
  return html`
    <ul class="tiles" id="stage-images" style=${{ "--columns": side, "--rows": Math.ceil(count / side) }}>
      ${over
        ? images.map((image, k) => html`<${Tile} key=${image.id} job=${job} image=${image} k=${k} />`)
        : Array.from({ length: wanted }, (_, k) => html`
            <li class="tile forming" key=${k}><${Forming} job=${job} k=${k} /></li>
          `)}
    </ul>
  `;
}

/** Image number k before it is there. */
export function Forming({ job, k }) {
  const preview = formingAt(job, k);
  return preview ? html`<img class="soft" src=${preview} alt="Image ${k + 1} as it forms" />` : html`<span class="later"></span>`;
}

function Tile({ job, image, k }) {
  const drag = (event) => event.dataTransfer.setData("application/x-perfusion-image", image.id);
  return html`
    <li class="tile">
      <button type="button" class="open" aria-label="Enlarge image ${k + 1}" draggable onDragStart=${drag} onClick=${() => show(job.id, k)}>
        <${Picture} address=${image.url} alt="Image ${k + 1}, seed ${image.seed}" width=${image.width} height=${image.height} />
      </button>
      <div class="tile-foot"><span class="seed">Seed ${image.seed}</span><${Favourite} id=${image.id} name="image ${k + 1}" /></div>
    </li>
  `;
}
