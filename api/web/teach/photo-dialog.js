// One photo, large: the crop that the training sees, and a mask to paint.

import { Paint, PaintTools } from "../edit/paint.js";
import { maskFile, maskStroke } from "../edit/strokes.js";
import { html, useLayoutEffect, useRef, useState } from "../shared/html.js";
import { openPhoto } from "./photo-list.js";
import { changePhoto, photos, setMask } from "./pictures.js";

export function PhotoDialog() {
  // The size is known a moment after the file is chosen.
  const photo = photos.value.find(({ key, width }) => key === openPhoto.value && width > 0);
  return photo ? html`<${Opened} key=${photo.key} photo=${photo} />` : null;
}

function Opened({ photo }) {
  const dialog = useRef(null);
  const [strokes, setStrokes] = useState(/** @type {any[]} */ ([]));
  const [tool, setTool] = useState("brush");
  const [size, setSize] = useState(14);
  const [changed, setChanged] = useState(false);
  const picture = { url: photo.url, width: photo.width, height: photo.height };
  useLayoutEffect(() => {
    dialog.current.showModal();
    maskOf(photo).then((stroke) => stroke && setStrokes((now) => [stroke, ...now]), () => {});
  }, []);
  const paint = (painted) => {
    setStrokes(painted);
    setChanged(true);
  };
  const own = { id: "photo-mask", picture, strokes, tool, size, onStrokes: paint };
  // Escape keeps what was painted, too.
  const keep = async () => {
    openPhoto.value = null;
    if (changed) setMask(photo.key, strokes.length > 0 ? await maskFile(strokes, picture) : null);
  };
  return html`
    <dialog class="photo-dialog" ref=${dialog} aria-label="Crop and mask of ${photo.file.name}" onClose=${keep}>
      <p class="hint">Paint the object: the training learns what is painted, and keeps the rest plain.</p>
      <div class="photo-stage"><${Paint} ...${own} alt=${photo.file.name} /></div>
      <${PaintTools} ...${own} onTool=${setTool} onSize=${setSize} />
      <${Crop} photo=${photo} />
      <div class="row end">
        <button type="button" class="primary" onClick=${() => dialog.current.close()}>Done</button>
      </div>
    </dialog>
  `;
}

/** The mask that the photo has, or that the server found, to paint on; null if there is none. */
async function maskOf({ mask, foundMask, width, height }) {
  const file = mask ?? (foundMask && (await (await fetch(foundMask)).blob()));
  return file && maskStroke(file, { width, height });
}

/** The square that the training sees: its size and place, in per cent. */
function Crop({ photo }) {
  const { width, height, crop } = photo;
  const longest = Math.min(width, height);
  const [x, y, w, h] = crop ?? [0, 0, longest / width, longest / height];
  const side = Math.round((100 * w * width) / longest);
  const set = (changes) => {
    const now = { side, left: x, top: y, ...changes };
    const pixels = (now.side / 100) * longest;
    const [sw, sh] = [pixels / width, pixels / height];
    const inside = (at, share) => Math.min(1 - share, Math.max(0, at));
    changePhoto(photo.key, { crop: [inside(now.left, sw), inside(now.top, sh), sw, sh], ownCrop: true });
  };
  const range = (id, label, value, change) => html`
    <label class="zoom" for=${id}>${label} <input id=${id} type="range" min="0" max="100" value=${value} aria-valuetext="${value} %" onInput=${({ target }) => change(Number(target.value) / 100)} /></label>
  `;
  const place = (at, share) => (share < 1 ? Math.round((100 * at) / (1 - share)) : 0);
  return html`
    <fieldset class="crop-fields">
      <legend>What the training sees</legend>
      <div class="row">
        ${range("crop-size", "Size", side, (share) => set({ side: Math.max(20, 100 * share) }))}
        ${range("crop-left", "Across", place(x, w), (share) => set({ left: share * (1 - w) }))}
        ${range("crop-top", "Down", place(y, h), (share) => set({ top: share * (1 - h) }))}
        <div class="crop-shown"><img src=${photo.url} alt="" /><span class="crop" style=${{ "--x": `${100 * x}%`, "--y": `${100 * y}%`, "--w": `${100 * w}%`, "--h": `${100 * h}%` }}></span></div>
      </div>
    </fieldset>
  `;
}
