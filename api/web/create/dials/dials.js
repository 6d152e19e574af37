// The concepts of the prompt with their dials, and the faces of those that could be in it.

import { insertConcept } from "../../shared/draft.js";
import { Face } from "../../shared/face.js";
import { html } from "../../shared/html.js";
import { mentionedNames } from "../../shared/prompt.js";
import { concepts, findConcept, store } from "../../shared/store.js";
import { statusWord } from "../../shared/words.js";
import { Dial } from "./dial.js";

const HINT =
  "Further right looks more like your photos, further left follows the prompt more. The number is the strength that a prompt takes.";

/** One dial for each concept that the prompt names. */
export function Dials() {
  const names = [...mentionedNames(store.draft.value.prompt).keys()];
  if (names.length === 0) return null;
  return html`
    <fieldset class="dials" id="strengths">
      <legend>Strength</legend>
      <p class="hint" id="strength-hint">${HINT}</p>
      <ul id="strength-list">
        ${names.map((name) => {
          const concept = findConcept(name);
          return concept?.usable
            ? html`<${Dial} key=${name} concept=${concept} />`
            : html`<li class="dial bad" key=${name}><code>${`<${name}>`}</code> <span>${whyNot(concept)}</span></li>`;
        })}
      </ul>
    </fieldset>
  `;
}

const whyNot = (concept) => {
  if (!concept) return "is not a concept of yours";
  const { status, reason } = concept;
  return status === "ready" ? `cannot be used here. ${reason}` : `is not ready: ${statusWord(status)}`;
};

/** The concepts as faces; one press puts a concept into the prompt. */
export function Faces() {
  const mentioned = mentionedNames(store.draft.value.prompt);
  const usable = concepts().filter((concept) => concept.usable);
  if (usable.length === 0) return null;
  return html`
    <ul class="faces" aria-label="Your concepts">
      ${usable.map(
        (concept) => html`
          <li key=${concept.id}>
            <button type="button" class="face-button" aria-pressed=${String(mentioned.has(concept.name))}
              aria-label="Put ${concept.placeholder} into the prompt" title=${concept.superclass}
              onClick=${() => insertConcept(concept.name)}>
              <${Face} concept=${concept} size="small" />
              <span>${concept.name}</span>
            </button>
          </li>
        `,
      )}
    </ul>
  `;
}
