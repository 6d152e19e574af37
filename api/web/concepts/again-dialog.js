// Teaching again with other options: the old file is kept until the new one is better.

import { goToRefusal } from "../shared/fields.js";
import { html, signal, useLayoutEffect, useRef, useState } from "../shared/html.js";
import { store } from "../shared/store.js";
import { TrainingOptions, readTraining } from "../teach/training-options.js";
import { teachAgain } from "./actions.js";

const opened = signal(/** @type {any} */ (null));

export const openAgain = (concept) => {
  opened.value = concept;
};

export const AgainDialog = () => (opened.value ? html`<${Opened} concept=${opened.value} />` : null);

function Opened({ concept }) {
  const dialog = useRef(null);
  const [values, setValues] = useState({});
  const [always, setAlways] = useState(false);
  useLayoutEffect(() => dialog.current.showModal(), []);
  const start = (event) => {
    event.preventDefault();
    const { chosen, refusals } = readTraining(values);
    store.refusals.value = refusals ?? {};
    if (!chosen) {
      goToRefusal(dialog.current);
      return;
    }
    dialog.current.close();
    teachAgain(concept, { ...chosen, replace: always ? "always" : "if-better" });
  };
  return html`
    <dialog class="again" ref=${dialog} aria-labelledby="again-title" onClose=${() => (opened.value = null)}>
      <form onSubmit=${start} novalidate>
        <h2 id="again-title">Teach ${concept.placeholder} again</h2>
        <p class="hint">From the same photos. What it is now serves until the new one is there, and can be brought back.</p>
        <${TrainingOptions} prefix="again" values=${values} onChange=${setValues} />
        <label class="check" for="again-always">
          <input type="checkbox" id="again-always" checked=${always} onChange=${({ target }) => setAlways(target.checked)} /> Replace the old one even if the new one is no better
        </label>
        <div class="row end">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button type="submit" class="primary">Teach again</button>
        </div>
      </form>
    </dialog>
  `;
}
