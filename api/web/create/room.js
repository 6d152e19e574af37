// Create: the prompt with its dials at one side, the stage at the other.

import { restoreOrEdit } from "./dropped.js";
import { FormAlert } from "../shared/fields.js";
import { html } from "../shared/html.js";
import { store } from "../shared/store.js";
import { EditOptions } from "../edit/options.js";
import { Dials, Faces } from "./dials/dials.js";
import { Examples } from "./examples.js";
import { Film } from "./stage/film.js";
import { GridForm } from "./grid/form.js";
import { PromptBox } from "./prompt-box.js";
import { QuickSettings, Settings } from "./settings.js";
import { send } from "./send.js";
import { Stage } from "./stage/stage.js";

export function CreateRoom() {
  const asked = store.asked.value;
  const submit = (event) => {
    event?.preventDefault();
    send();
  };
  return html`
    <section class="create" aria-labelledby="create-title" ...${restoreOrEdit}>
      <h1 class="sr" id="create-title">Create</h1>
      <form class="desk" id="create-form" aria-label="Prompt and settings" novalidate onSubmit=${submit}>
        <div class="composer">
          <div class="field">
            <label for="prompt">Prompt</label>
            <${PromptBox} submit=${submit} />
          </div>
          <button class="primary big" type="submit" id="generate" aria-disabled=${store.sending.value ? "true" : undefined}>Generate</button>
        </div>
        <div class="desk-scroll" aria-busy=${String(!asked)}>
          <${FormAlert} id="create-alert" />
          ${asked && html`
            <${Examples} />
            <${Faces} />
            <${EditOptions} />
            <${Dials} />
            <${QuickSettings} />
            <${GridForm} />
            <${Settings} />
          `}
        </div>
      </form>
      <div class="wall">
        ${asked && html`
          <${Stage} />
          <${Film} />
        `}
      </div>
    </section>
  `;
}
