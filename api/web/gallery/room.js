// Gallery: every image, found again, selected, kept, thrown away, or taken back to Create.

import { getJob } from "../server/api.js";
import { hasEnded } from "../server/events.js";
import { follow, jobNow } from "../server/jobs.js";
import { deleteImages, fileName } from "../create/stage/actions.js";
import { restoreImage, takeFile } from "../create/dropped.js";
import { Favourite, isFavourite } from "../create/favourite.js";
import { show } from "../create/stage/stage-state.js";
import { html, useEffect, useRef } from "../shared/html.js";
import { LazyPicture } from "../shared/pictures.js";
import { go } from "../shared/router.js";
import { concepts, notify, store } from "../shared/store.js";
import { ago, count } from "../shared/words.js";
import { readGallery, readMore, setFilter } from "./images.js";
import { downloadZip } from "./zip.js";

const TYPING_MS = 300;
let typing = 0;

export function GalleryRoom() {
  const { items, cursor, read, busy } = store.gallery.value;
  const { q, concept, favourites } = store.filters.value;
  const end = useRef(null);
  const over = store.recent.value.ids.map(jobNow).filter((job) => job && hasEnded(job)).map((job) => job?.id).join(" ");
  // Read again when a generation ends, also one of another tab, and when the server is back.
  useEffect(() => {
    readGallery();
  }, [over, store.returns.value]);
  useEffect(() => {
    const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && readMore(), { rootMargin: "600px" });
    if (end.current) seen.observe(end.current);
    return () => seen.disconnect();
  }, [cursor, items.length]);
  const shown = favourites ? items.filter(({ id }) => isFavourite(id)) : items;
  const search = ({ target }) => {
    clearTimeout(typing);
    typing = setTimeout(() => setFilter({ q: target.value }), TYPING_MS);
  };
  const drop = (event) => {
    event.preventDefault();
    event.stopPropagation();
    const [file] = event.dataTransfer.files;
    if (file) takeFile(file).catch((error) => notify(error.message));
  };
  return html`
    <section class="gallery-room scroll" aria-labelledby="gallery-title" onDragOver=${(event) => event.preventDefault()} onDrop=${drop}>
      <header class="room-head">
        <h1 id="gallery-title">Gallery</h1>
        <div class="filters" role="search">
          <label class="sr" for="search">Search in prompts</label>
          <input id="search" type="search" placeholder="Search in prompts" defaultValue=${q} onInput=${search} />
          <label class="sr" for="by-concept">Concept</label>
          <select id="by-concept" value=${concept} onChange=${({ target }) => setFilter({ concept: target.value })}>
            <option value="">All concepts</option>
            ${concepts().map(({ id, placeholder }) => html`<option value=${id} selected=${id === concept}>${placeholder}</option>`)}
          </select>
          <button type="button" class="small" aria-pressed=${String(favourites)} onClick=${() => setFilter({ favourites: !favourites })}>Favourites</button>
        </div>
      </header>
      <${Selection} shown=${shown} />
      <ul class="gallery" id="gallery" aria-label="Images" aria-busy=${String(busy)}>
        ${shown.map((image, n) => html`<${Item} key=${image.id} image=${image} n=${n} />`)}
      </ul>
      ${read && !busy && shown.length === 0 && html`<p class="empty" id="gallery-empty">${q || concept || favourites ? "No image fits." : "No images yet. What you create appears here. Drop an image of this server on the page to have its settings back."}</p>`}
      <div ref=${end}>${cursor && html`<button type="button" class="small" id="gallery-more" onClick=${readMore}>Show more</button>`}</div>
    </section>
  `;
}

/** What can be done with what is selected. */
function Selection({ shown }) {
  const selected = store.selected.value;
  const chosen = store.gallery.value.items.filter(({ id }) => selected.includes(id));
  const all = () => {
    store.selected.value = shown.map(({ id }) => id);
  };
  const zip = () => downloadZip(chosen, fileName).catch((error) => notify(error.message));
  return html`
    <div class="selection" role="group" aria-label="Selection" data-any=${chosen.length ? "yes" : undefined}>
      <span role="status">${chosen.length ? `${count(chosen.length, "image")} selected` : "Select images to keep or delete them together."}</span>
      <button type="button" class="small" disabled=${shown.length === 0} onClick=${all}>Select all</button>
      <button type="button" class="small" disabled=${!chosen.length} onClick=${() => (store.selected.value = [])}>Select none</button>
      <button type="button" class="small" disabled=${!chosen.length} onClick=${zip}>Download as zip</button>
      <button type="button" class="small danger" disabled=${!chosen.length} onClick=${() => deleteImages(chosen)}>Delete</button>
    </div>
  `;
}

function Item({ image, n }) {
  const { id, request, created_at: made, seed } = image;
  const prompt = request?.prompt ?? "";
  const selected = store.selected.value.includes(id);
  const toggle = () => {
    store.selected.value = selected ? store.selected.value.filter((each) => each !== id) : [...store.selected.value, id];
  };
  const open = async () => {
    try {
      const job = follow(await getJob(image.job_id)).value;
      show(job.id, Math.max(0, job.images.findIndex((each) => each.id === id)));
      go("create");
      // There the arrow keys go on.
      setTimeout(() => document.getElementById("stage")?.focus({ preventScroll: true }));
    } catch (error) {
      notify(error.message);
    }
  };
  const drag = (event) => event.dataTransfer.setData("application/x-perfusion-image", id);
  const restore = () => restoreImage(id).catch((error) => notify(error.message));
  const name = `image ${n + 1}, ${prompt}, seed ${seed}`;
  return html`
    <li class="item" data-selected=${selected ? "yes" : undefined}>
      <button type="button" class="open" aria-label="Open ${name}" draggable onDragStart=${drag} onClick=${open}>
        <${LazyPicture} address=${image.thumbnail_url} alt="" />
      </button>
      <label class="pick"><input type="checkbox" aria-label="Select ${name}" checked=${selected} onChange=${toggle} /></label>
      <${Favourite} id=${id} name=${name} />
      <p class="item-prompt" title=${prompt}>${prompt}</p>
      <p class="hint">${ago(made)} <button type="button" class="quiet small" aria-label="Use settings of ${name}" onClick=${restore}>Use settings</button></p>
    </li>
  `;
}
