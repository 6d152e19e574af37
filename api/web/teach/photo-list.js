// The chosen photos: each with its crop, its mask, what is wrong with it and what to do.

import { html, signal } from "../shared/html.js";
import { count } from "../shared/words.js";
import { MAX_PICTURES, addFiles, checking, leftOut, moveEarlier, photos, removePhoto, setMask } from "./pictures.js";

/** The key of the photo that is open in its dialog, or null. */
export const openPhoto = signal(/** @type {?number} */ (null));

const ACCEPTED = "image/jpeg,image/png,image/webp,image/heic,.heic";

export function DropZone({ refusal }) {
  const take = (event) => {
    addFiles([...event.target.files]);
    event.target.value = "";
  };
  const few = photos.value.length === 0;
  return html`
    <div class=${few ? "drop" : "drop small"} id="drop">
      <input id="pictures" type="file" multiple accept=${ACCEPTED} data-pointer="/images" aria-invalid=${refusal ? "true" : undefined}
        aria-describedby="pictures-hint pictures-error" onChange=${take} />
      <label for="pictures">
        <strong>Drop photos here</strong>
        <span>or <u>choose files</u>, or paste</span>
      </label>
      <p class="hint" id="pictures-hint">One to ${MAX_PICTURES} of one thing: JPEG, PNG, WebP or HEIC. Three to five are enough. A transparent background becomes the mask.</p>
    </div>
    <p class="error" id="pictures-error" hidden=${!refusal && !leftOut.value}>${refusal || leftOut.value}</p>
  `;
}

export function PhotoList() {
  const list = photos.value;
  const own = list.filter(({ mask }) => mask).length;
  const partly = own > 0 && own < list.length;
  const bad = list.filter(({ refusal }) => refusal).length;
  const found = list.reduce((sum, { findings }) => sum + findings.length, 0);
  const summary = [
    bad > 0 && `${count(bad, "photo")} cannot be used.`,
    found > 0 && `${count(found, "thing")} to know about these photos.`,
  ];
  return html`
    <ul class="thumbs" id="thumbs" aria-label="Your photos">${list.map((photo, n) => html`<${Thumb} key=${photo.key} photo=${photo} n=${n} />`)}</ul>
    <p class="hint" id="masks-note" hidden=${!partly}>Photos without a mask of their own use their transparency, or count as a whole.</p>
    <p class="hint" id="photo-check" role="status">${checking.value || summary.filter(Boolean).join(" ")}</p>
    <p class="sr" id="pictures-status" role="status">${list.length ? `${count(list.length, "photo")} chosen` : ""}</p>
  `;
}

function Thumb({ photo, n }) {
  const { key, file, url, mask, maskName, readable, transparent, refusal, findings, crop } = photo;
  const name = `${file.name}, photo ${n + 1}`;
  const badge = mask ? "own mask" : transparent ? "mask from transparency" : photo.foundMask ? "mask found" : "";
  const remove = () => {
    removePhoto(key);
    const left = document.querySelectorAll("#thumbs .remove");
    /** @type {HTMLElement} */ (left[n] ?? left[n - 1] ?? document.getElementById("pictures"))?.focus();
  };
  return html`
    <li class=${refusal ? "bad" : findings.length ? "found" : ""}>
      <div class="frame checker">
        ${readable
          ? html`<button type="button" class="open" aria-label="Crop and mask of ${name}" onClick=${() => (openPhoto.value = key)}>
              <span class="photo"><img src=${url} alt=${file.name} decoding="async" />${crop && html`<span class="crop" style=${cropStyle(crop)}></span>`}</span>
            </button>`
          : html`<span class="unreadable">${file.name}</span>`}
        ${badge && html`<span class="badge">${badge}</span>`}
        <button type="button" class="remove" aria-label="Remove ${name}" aria-invalid=${refusal ? "true" : undefined} onClick=${remove}>×</button>
      </div>
      <div class="thumb-tools">
        <label class="mask">
          <input type="file" accept="image/png,image/jpeg,image/webp" aria-label="Add a mask for ${name}: white where the object is"
            onChange=${({ target }) => target.files[0] && setMask(key, target.files[0], target.files[0].name)} />
          <span>${mask ? `Mask: ${maskName}` : "Add a mask"}</span>
        </label>
        ${n > 0 && html`<button type="button" class="quiet small" aria-label="Move ${name} to the front by one" title="Move to the front by one" onClick=${() => moveEarlier(key)}>←</button>`}
      </div>
      <p class="error" hidden=${!refusal}>${refusal && `${file.name}: ${refusal}`}</p>
      ${findings.map(({ code, detail, remedy }) => html`<p class="finding" key=${code}>${detail} <span class="hint">${remedy}</span></p>`)}
    </li>
  `;
}

const cropStyle = ([x, y, w, h]) => ({ "--x": `${100 * x}%`, "--y": `${100 * y}%`, "--w": `${100 * w}%`, "--h": `${100 * h}%` });

/** Files that are pasted or dropped anywhere in Concepts. */
export const takePhotos = {
  onDragOver: (event) => event.preventDefault(),
  onDrop: (event) => {
    event.preventDefault();
    event.stopPropagation();
    addFiles([...event.dataTransfer.files]);
  },
};
