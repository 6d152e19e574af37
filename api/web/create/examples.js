// Prompts to begin with: places that the shipped base model draws well, with the concepts at hand.

import { setPrompt } from "../shared/draft.js";
import { html } from "../shared/html.js";
import { concepts, store } from "../shared/store.js";

const SCENES = ["on the beach", "at night", "in the snow", "in a forest"];
const PLAIN = ["a red car on the beach", "a penguin in the snow", "a cat next to a dog", "a boat at night"];

/** Up to four prompts; those with concepts come first. */
function examples() {
  const usable = concepts().filter((concept) => concept.usable);
  if (usable.length === 0) return PLAIN;
  const alone = usable.slice(0, 3).map(({ placeholder }, k) => `a photo of ${placeholder} ${SCENES[k]}`);
  const [first, second] = usable;
  const together = second ? [`${first.placeholder} next to ${second.placeholder} ${SCENES[3]}`] : [];
  return [...together, ...alone].slice(0, 4);
}

/** Shown while the prompt is empty. */
export function Examples() {
  if (store.draft.value.prompt.trim()) return null;
  const take = (prompt) => {
    setPrompt(prompt);
    document.getElementById("prompt")?.focus();
  };
  return html`
    <div class="examples" role="group" aria-label="Example prompts">
      ${examples().map((prompt) => html`<button type="button" class="chip" key=${prompt} onClick=${() => take(prompt)}>${prompt}</button>`)}
    </div>
  `;
}
