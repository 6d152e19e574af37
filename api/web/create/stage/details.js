// What made an image, and where each word of its prompt acted.

import { figures, strengthText } from "../../shared/gate.js";
import { html, useEffect, useState } from "../../shared/html.js";
import { GATES, LOCKINGS, SCHEDULERS } from "../settings.js";

const FACTS = {
  num_inference_steps: "Steps",
  guidance_scale: "Guidance",
  scheduler: "Scheduler",
  locking: "Locking",
  gates: "Gates",
  negative_prompt: "Negative prompt",
};

const inWords = (value) => SCHEDULERS[value] ?? LOCKINGS[value] ?? GATES[value] ?? value;

export function Details({ job, image, k, showMap }) {
  const request = job.request ?? {};
  const facts = [
    ["Image", `${k + 1} of ${job.images.length}`],
    ["Seed", image.seed],
    ["Size in pixels", `${image.width} × ${image.height}`],
    ...(request.concepts ?? []).map((gate) => [`<${gate.name}>`, `${strengthText(gate)} (${figures(gate)})`]),
    ...(image.presence ?? []).map(({ name, present }) => [`<${name}> in the image`, present ? "yes" : "not found"]),
    ...(request.edit ? [["How much changes", request.edit.denoising_strength]] : []),
    ...Object.entries(FACTS).map(([field, label]) => [label, inWords(request[field])]),
  ].filter(([, value]) => value !== undefined && value !== null && value !== "");
  return html`
    <aside class="details" aria-label="Details of the image">
      <${Words} image=${image} showMap=${showMap} />
      <dl>
        ${facts.map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${String(value)}</dd></div>`)}
      </dl>
    </aside>
  `;
}

/** A row of words; pointing at one shows its map, choosing one keeps it. */
function Words({ image, showMap }) {
  const maps = image.attention_maps ?? [];
  const [kept, setKept] = useState(/** @type {?number} */ (null));
  const [pointed, setPointed] = useState(/** @type {?number} */ (null));
  const wanted = pointed ?? kept;
  useEffect(() => showMap(wanted === null ? "" : (maps[wanted]?.url ?? "")), [wanted, image.id]);
  if (maps.length === 0) return null;
  return html`
    <div class="words">
      <p class="hint" id="words-hint">Point at a word to see where it acted, or choose it. The number is how much of the image it covers.</p>
      <div class="row" role="group" aria-label="Words of the prompt" aria-describedby="words-hint">
        ${maps.map(
          ({ word, concept_id: concept, coverage }, n) => html`
            <button type="button" key=${n} class=${concept ? "small word named" : "small word"} aria-pressed=${String(n === kept)}
              onPointerEnter=${() => setPointed(n)} onPointerLeave=${() => setPointed(null)} onClick=${() => setKept(kept === n ? null : n)}>
              ${word}<span class="coverage"> ${Math.round(100 * coverage)} %</span>
            </button>
          `,
        )}
      </div>
    </div>
  `;
}
