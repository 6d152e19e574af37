// A grid of images with the labels of its columns and rows, and a zoom.

import { fileAt } from "../../server/api.js";
import { hasEnded } from "../../server/events.js";
import { saveBlob } from "../../shared/download.js";
import { html, useState } from "../../shared/html.js";
import { Picture } from "../../shared/pictures.js";
import { notify } from "../../shared/store.js";
import { cellLabel } from "./request.js";
import { show } from "../stage/stage-state.js";
import { Forming } from "../stage/tiles.js";

export function GridView({ job }) {
  const [zoom, setZoom] = useState(100);
  const [columns, rows] = job.request.sweep.axes;
  const over = hasEnded(job);
  if (over && job.images.length === 0) return null;
  const at = new Map(job.images.map((image, k) => [String(image.cell), { image, k }]));
  const sheet = async () => {
    try {
      saveBlob(await fileAt(`jobs/${job.id}/sheet`), "contact-sheet.png");
    } catch (error) {
      notify(error.message);
    }
  };
  const rowCount = rows?.values.length ?? 1;
  return html`
    <div class="grid-scroll" tabindex="0" role="region" aria-label="Grid of images">
      <table class="grid" style=${{ "--zoom": zoom / 100, "--columns": columns.values.length }}>
        <thead>
          <tr>
            ${rows && html`<td></td>`}
            ${columns.values.map((_, x) => html`<th scope="col">${cellLabel(columns, x)}</th>`)}
          </tr>
        </thead>
        <tbody id="stage-images">
          ${Array.from({ length: rowCount }, (_row, y) => html`
            <tr>
              ${rows && html`<th scope="row">${cellLabel(rows, y)}</th>`}
              ${columns.values.map((_column, x) => html`<td><${Cell} job=${job} cell=${at.get(`${x},${y}`)} place=${y * columns.values.length + x} /></td>`)}
            </tr>
          `)}
        </tbody>
      </table>
    </div>
    <div class="actions" role="group" aria-label="Grid">
      <label class="zoom" for="zoom">Zoom <input id="zoom" type="range" min="50" max="400" step="10" value=${zoom} onInput=${({ target }) => setZoom(Number(target.value))} /></label>
      <button type="button" class="small" disabled=${!over} onClick=${sheet}>Download the sheet</button>
    </div>
  `;
}

function Cell({ job, cell, place }) {
  if (!cell) return html`<${Forming} job=${job} k=${place} />`;
  const { image, k } = cell;
  return html`
    <button type="button" class="open" aria-label="Enlarge image ${k + 1}" onClick=${() => show(job.id, k)}>
      <${Picture} address=${image.url} alt="Image ${k + 1}, seed ${image.seed}" />
    </button>
  `;
}
