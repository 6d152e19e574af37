// Under the prompt: what an edit starts from, and how much changes.

import { Field, controlOf } from "../shared/fields.js";
import { html, useRef } from "../shared/html.js";
import { store } from "../shared/store.js";
import { changeEdit, editFile, leaveEdit } from "./begin.js";
import { usualDenoising } from "./request.js";

const KEEP_HINT = "Only the prompt's concepts are new in the mask, so no edge is seen; what was there stays visible around them.";

export function EditOptions() {
  const chooser = useRef(null);
  const edit = store.edit.value;
  const choose = ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) editFile(file);
  };
  const picker = html`
    <input class="sr" id="edit-file" ref=${chooser} type="file" accept="image/jpeg,image/png,image/webp" tabindex="-1" aria-hidden="true" onChange=${choose} />
  `;
  if (!edit) {
    return html`
      <div class="row edit-begin">
        <button type="button" class="small" onClick=${() => chooser.current.click()}>Edit a photo</button>
        <span class="hint">or drop one on the stage</span>
        ${picker}
      </div>
    `;
  }
  const masked = edit.strokes.length > 0;
  const denoising = edit.denoising === "" ? usualDenoising(edit) : Number(edit.denoising);
  const pixels = (name, label, placeholder) => html`
    <${Field} id="mask-${name}" label=${label} pointer="/mask_${name}">
      <input type="number" inputmode="numeric" min="0" placeholder=${placeholder} ...${controlOf(`mask-${name}`, `/mask_${name}`)}
        value=${edit[name]} onInput=${({ target }) => changeEdit({ [name]: target.value })} />
    <//>
  `;
  return html`
    <fieldset class="edit-options" id="edit-options">
      <legend>Edit</legend>
      <div class="row">
        <img class="edit-thumb" src=${edit.url} alt="" />
        <p class="hint grow">${masked ? "Only what is painted is made anew." : "The whole picture changes; paint a mask to keep the rest."}</p>
        ${!edit.open && html`<button type="button" class="small" onClick=${() => changeEdit({ open: true })}>Back to the mask</button>`}
        <button type="button" class="small quiet" onClick=${leaveEdit}>No edit</button>
        ${picker}
      </div>
      <${Field} id="denoising" label="How much changes" pointer="/denoising_strength">
        <div class="joined">
          <input type="range" min="0.05" max="1" step="0.05" ...${controlOf("denoising", "/denoising_strength")} value=${denoising}
            aria-valuetext="${Math.round(denoising * 100)} %" onInput=${({ target }) => changeEdit({ denoising: target.value })} />
          <output for="denoising">${Math.round(denoising * 100)} %</output>
        </div>
      <//>
      ${masked &&
      html`<${Field} id="keep-background" pointer="/keep_background" hint=${KEEP_HINT}>
        <label class="check" for="keep-background">
          <input type="checkbox" ...${controlOf("keep-background", "/keep_background", KEEP_HINT)} checked=${edit.keepBackground}
            onChange=${({ target }) => changeEdit({ keepBackground: target.checked })} />
          Keep the background
        </label>
      <//>`}
      ${masked &&
      html`<details><summary>Edge of the mask</summary>
        <div class="options">${pixels("feather", "Soft edge (pixels)", 8)} ${pixels("margin", "Seen around it (pixels)", 32)}</div>
      </details>`}
    </fieldset>
  `;
}
