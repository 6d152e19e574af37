// Teach: photos, a name and a plain word become a concept in training.

import { createConcept } from "../server/api.js";
import { addTraining, readConcepts } from "../server/concepts.js";
import { Field, FormAlert, controlOf, goToRefusal, showRefusals } from "../shared/fields.js";
import { html, signal } from "../shared/html.js";
import { clearRefusal, findConcept, store } from "../shared/store.js";
import { slug } from "../shared/words.js";
import { DropZone, PhotoList } from "./photo-list.js";
import { appendPictures, chosenCrops, clearPhotos, photos, placeRefusals, setKind } from "./pictures.js";
import { TrainingOptions, readTraining } from "./training-options.js";
import { WordFinding } from "./word.js";

const NOTHING = { name: "", superclass: "", training: {} };
const draft = signal(NOTHING);
const sending = signal(false);

const change = (changes) => {
  draft.value = { ...draft.value, ...changes };
};
const form = () => /** @type {HTMLElement} */ (document.getElementById("teach-form"));

/** What the page can refuse itself, by pointer. */
function mistakes(training) {
  const { name, superclass } = draft.value;
  const found = { ...training.refusals };
  const stored = slug(name);
  if (photos.value.length === 0) found["/images"] = "Add at least one photo.";
  if (!name.trim()) found["/name"] = "Give the concept a name.";
  else if (!stored) found["/name"] = "A name needs a letter from a to z or a digit.";
  else if (findConcept(stored)) found["/name"] = `You already have a concept called ${stored}.`;
  const words = superclass.trim().split(/\s+/).filter(Boolean);
  if (words.length === 0) found["/superclass"] = "Say what kind of thing it is.";
  if (words.length > 3) found["/superclass"] = "Use one to three words.";
  return found;
}

async function teach(event) {
  event.preventDefault();
  if (sending.value) return;
  const training = readTraining(draft.value.training);
  store.refusals.value = mistakes(training);
  if (Object.keys(store.refusals.value).length > 0) {
    goToRefusal(form());
    return;
  }
  sending.value = true;
  try {
    const data = new FormData();
    await appendPictures(data);
    const crops = await chosenCrops();
    if (crops) data.append("crops", JSON.stringify(crops));
    data.append("name", slug(draft.value.name));
    data.append("superclass", draft.value.superclass.trim());
    if (Object.keys(training.chosen ?? {}).length > 0) data.append("training", JSON.stringify(training.chosen));
    const { job } = await createConcept(data);
    await readConcepts().catch(() => {});
    addTraining(job);
    clearPhotos();
    draft.value = NOTHING;
    store.refusals.value = {};
  } catch (error) {
    if (error.status === 413) error.message += " Use fewer or smaller photos.";
    const others = placeRefusals(error.errors ?? []);
    if (others.length > 0 || (error.errors ?? []).length === 0) showRefusals(form(), { message: error.message, errors: others });
    goToRefusal(form());
  } finally {
    sending.value = false;
  }
}

/** A field's text counts from now on, and what was wrong with it no longer. */
function typed({ target }) {
  change({ [target.name]: target.value });
  clearRefusal(`/${target.name}`);
}

function chooseWord(word) {
  typed({ target: { name: "superclass", value: word } });
  setKind(word);
  document.getElementById("superclass")?.focus();
}

export function TeachForm() {
  const { name, superclass, training } = draft.value;
  const stored = slug(name);
  const taken = stored && findConcept(stored) ? ` You already have a concept called ${stored}.` : "";
  const nameHint = stored ? `It will be called ${stored}; in a prompt you write <${stored}>.${taken}` : "Any name; letters a to z, digits and hyphens of it are kept.";
  return html`
    <form id="teach-form" class="desk" novalidate onSubmit=${teach} aria-labelledby="teach-title">
      <div class="desk-scroll">
        <h2 id="teach-title">Teach</h2>
        <div class="photos">
          <${DropZone} refusal=${store.refusals.value["/images"] ?? ""} />
          <${PhotoList} />
        </div>
        <${Field} id="name" label="Name" pointer="/name" hint=${nameHint}>
          <input name="name" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="80" placeholder="My Teddy" ...${controlOf("name", "/name", nameHint)}
            value=${name} onInput=${typed} />
        <//>
        <${Field} id="superclass" label="What is it?" pointer="/superclass" hint="The plain word for its kind, one to three words.">
          <input name="superclass" autocomplete="off" autocapitalize="none" maxlength="80" placeholder="teddy bear" ...${controlOf("superclass", "/superclass", "hint")}
            value=${superclass} onInput=${typed} onChange=${({ target }) => setKind(target.value.trim())} />
          <${WordFinding} word=${superclass} onChoose=${chooseWord} />
        <//>
        <details id="training-details">
          <summary>Training options</summary>
          <${TrainingOptions} values=${training} onChange=${(values) => change({ training: values })} />
        </details>
        <${FormAlert} id="teach-alert" />
      </div>
      <div class="desk-foot">
        <button class="primary big" type="submit" id="train" aria-disabled=${sending.value ? "true" : undefined}>${sending.value ? "Sending photos" : "Train"}</button>
      </div>
    </form>
  `;
}
