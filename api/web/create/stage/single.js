// One image, as large as the stage, with what can be done with it and what made it.

import { html, useState } from "../../shared/html.js";
import { Picture, usePicture } from "../../shared/pictures.js";
import { store } from "../../shared/store.js";
import { Actions } from "./actions.js";
import { Details } from "./details.js";
import { neighbours, step } from "./stage-state.js";

export function Single({ job, image, k }) {
  const [map, setMap] = useState({ id: "", address: "" });
  const { before, after } = neighbours();
  const drag = (event) => event.dataTransfer.setData("application/x-perfusion-image", image.id);
  const over = map.id === image.id ? map.address : "";
  const { url } = usePicture(over);
  return html`
    <div class="single" data-details=${store.details.value ? "yes" : undefined}>
      <ul class="single-frame" id="stage-images">
        <li draggable onDragStart=${drag}>
          ${over && url
            ? html`<img id="shown-image" src=${url} alt="Where the word acted" />`
            : html`<${Picture} id="shown-image" address=${image.url} alt="Image ${k + 1} of ${job.images.length}, seed ${image.seed}" />`}
        </li>
      </ul>
      ${before && html`<button type="button" class="arrow before" aria-label="Previous image" onClick=${() => step(-1)}>‹</button>`}
      ${after && html`<button type="button" class="arrow after" aria-label="Next image" onClick=${() => step(1)}>›</button>`}
      ${store.details.value && html`<${Details} job=${job} image=${image} k=${k} showMap=${(address) => setMap({ id: image.id, address })} />`}
    </div>
    <${Actions} job=${job} image=${image} k=${k} />
  `;
}
