// The settings under the prompt: the base model's defaults and bounds, and the seed.

import { boundsOf } from "../server/base-model.js";
import { keepSeed, setSetting, settingOf } from "../shared/draft.js";
import { Field, NumberField, controlOf } from "../shared/fields.js";
import { html } from "../shared/html.js";
import { store } from "../shared/store.js";

export const SCHEDULERS = {
  auto: "Automatic",
  ddim: "DDIM",
  dpmpp_2m: "DPM-Solver++ 2M",
  dpmpp_2m_karras: "DPM-Solver++ 2M Karras",
  euler: "Euler",
  euler_a: "Euler ancestral",
  euler_karras: "Euler Karras",
  lcm: "LCM",
  tcd: "TCD",
  unipc: "UniPC",
};
export const LOCKINGS = { local: "Local", global: "Global" };
export const GATES = { apart: "Apart", published: "As published" };
const LOCKING_HINT =
  "Local locking keeps the prompt's own words; global locking composes the scene as if the plain kind were named.";
const MAPS_HINT = "Look at an image's details to see it. The images themselves stay the same.";

/** How many images, and from which seed: the two that are always in sight. */
export function QuickSettings() {
  const { seed } = store.draft.value;
  const random = seed === "";
  return html`
    <div class="row quick">
      <${NumberField} id="num-images" label="Images" option="num_images" value=${settingOf("num_images")}
        onValue=${(value) => setSetting("num_images", value)} />
      <${Field} id="seed" label="Seed" pointer="/seed">
        <div class="joined">
          <input type="number" inputmode="numeric" min="0" max="4294967295" step="1" placeholder="random"
            ...${controlOf("seed", "/seed")} value=${seed === "?" ? undefined : seed}
            onInput=${(event) => keepSeed(event.target.validity.badInput ? "?" : event.target.value)} />
          <button type="button" id="seed-random" aria-label="Random seed" aria-pressed=${String(random)} onClick=${() => keepSeed("")}>Random</button>
        </div>
      <//>
    </div>
  `;
}

/** All others. */
export function Settings() {
  const { width, height } = store.base.value?.resolution ?? {};
  const number = (option, id, label, more = {}) => html`
    <${NumberField} id=${id} label=${label} option=${option} value=${settingOf(option)} onValue=${(value) => setSetting(option, value)} ...${more} />
  `;
  return html`
    <details id="settings-details">
      <summary>More settings</summary>
      <div class="options">
        <${Field} id="negative-prompt" label="Negative prompt" pointer="/negative_prompt" wide>
          <input maxlength="2000" placeholder="what to keep away from" ...${controlOf("negative-prompt", "/negative_prompt")}
            value=${settingOf("negative_prompt")} onInput=${(event) => setSetting("negative_prompt", event.target.value)} />
        <//>
        ${number("num_inference_steps", "steps", "Steps")} ${number("guidance_scale", "guidance", "Guidance")}
        <${Choice} id="scheduler" label="Scheduler" option="scheduler" labels=${SCHEDULERS} />
        <${Choice} id="locking" label="Locking" option="locking" labels=${LOCKINGS} />
        ${!store.edit.value && number("width", "width", "Width", { placeholder: width ?? "automatic" })}
        ${!store.edit.value && number("height", "height", "Height", { placeholder: height ?? "automatic" })}
        <${Choice} id="gates" label="Gates" option="gates" labels=${GATES} />
        ${number("guidance_rescale", "guidance-rescale", "Rescale")}
        <${Field} id="attention-maps" pointer="/attention_maps" hint=${MAPS_HINT} wide>
          <label class="check" for="attention-maps">
            <input type="checkbox" ...${controlOf("attention-maps", "/attention_maps", MAPS_HINT)}
              checked=${Boolean(settingOf("attention_maps"))} onChange=${(event) => setSetting("attention_maps", event.target.checked)} />
            Show where each word acts
          </label>
        <//>
        <p class="hint wide">${LOCKING_HINT}</p>
      </div>
    </details>
  `;
}

function Choice({ id, label, option, labels }) {
  const choices = boundsOf("generate", option).choices ?? Object.keys(labels);
  const value = settingOf(option);
  return html`
    <${Field} id=${id} label=${label} pointer="/${option}">
      <select ...${controlOf(id, `/${option}`)} value=${value} onChange=${(event) => setSetting(option, event.target.value)}>
        ${choices.map((choice) => html`<option value=${choice} selected=${choice === value}>${labels[choice] ?? choice}</option>`)}
      </select>
    <//>
  `;
}
