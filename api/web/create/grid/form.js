// The fields of a grid: what varies in columns and in rows.

import { settingOf } from "../../shared/draft.js";
import { Field, controlOf } from "../../shared/fields.js";
import { html } from "../../shared/html.js";
import { mentionedNames } from "../../shared/prompt.js";
import { store } from "../../shared/store.js";
import { fieldsFor, readGrid, usualValues } from "./request.js";

/** Begin a grid: the strength of the prompt's first concept, else the seed. */
export function beginGrid() {
  const [name] = mentionedNames(store.draft.value.prompt).keys();
  const field = name ? `beta:${name}` : "seed";
  store.grid.value = { axes: [{ field, text: usual(field) }] };
}

const usual = (field) =>
  usualValues(field, {
    seed: store.draft.value.seed,
    prompt: store.draft.value.prompt,
    steps: Number(settingOf("num_inference_steps")) || 20,
    guidance: Number(settingOf("guidance_scale")) || 4,
  });

function setAxis(k, axis) {
  const axes = [...store.grid.value.axes];
  axes[k] = axis;
  store.grid.value = { axes: axes.filter(Boolean) };
}

export function GridForm() {
  const grid = store.grid.value;
  if (!grid) {
    return html`<button type="button" class="small" id="grid-begin" onClick=${beginGrid}>Make a grid</button>`;
  }
  const { sweep } = readGrid(grid);
  const cells = sweep?.axes.reduce((product, { values }) => product * values.length, 1) ?? 0;
  const second = grid.axes.length > 1;
  return html`
    <fieldset class="grid-form" id="grid-form">
      <legend>Grid</legend>
      <${Axis} k=${0} label="Columns" />
      ${second && html`<${Axis} k=${1} label="Rows" />`}
      <div class="row">
        ${!second && html`<button type="button" class="small" onClick=${() => setAxis(1, { field: "seed", text: usual("seed") })}>Add rows</button>`}
        ${second && html`<button type="button" class="small quiet" onClick=${() => setAxis(1, null)}>Without rows</button>`}
        <button type="button" class="small quiet" onClick=${() => (store.grid.value = null)}>No grid</button>
        <span class="hint">${cells ? `${cells} images` : ""}</span>
      </div>
    </fieldset>
  `;
}

function Axis({ k, label }) {
  const axis = store.grid.value.axes[k];
  const names = [...mentionedNames(store.draft.value.prompt).keys()];
  const choices = fieldsFor(names, Boolean(store.edit.value));
  const pointer = `/sweep/axes/${k}`;
  const id = `axis-${k}`;
  return html`
    <${Field} id="${id}-field" label=${label}>
      <select id="${id}-field" value=${axis.field} onChange=${({ target }) => setAxis(k, { field: target.value, text: usual(target.value) })}>
        ${choices.map(([value, words]) => html`<option value=${value} selected=${value === axis.field}>${words}</option>`)}
      </select>
    <//>
    <${Field} id=${id} label="Values" pointer=${pointer} hint=${axis.field === "prompt" ? "One prompt a line." : "With commas between them."}>
      <textarea aria-label="${label}: values" rows=${axis.field === "prompt" ? 3 : 1} ...${controlOf(id, pointer, "with")} value=${axis.text}
        onInput=${({ target }) => setAxis(k, { ...axis, text: target.value })}></textarea>
    <//>
  `;
}
