// Concepts: teaching at one side, what is being learned and what was learned at the other.

import { html, useEffect, useRef } from "../shared/html.js";
import { concepts, store } from "../shared/store.js";
import { TeachForm } from "../teach/form.js";
import { PhotoDialog } from "../teach/photo-dialog.js";
import { takePhotos } from "../teach/photo-list.js";
import { addFiles } from "../teach/pictures.js";
import { Trainings } from "../teach/trainings.js";
import { alert, importFile, said } from "./actions.js";
import { AgainDialog } from "./again-dialog.js";
import { Card } from "./card.js";

// What can be used comes first.
const ORDER = ["ready", "training", "failed", "cancelled"];
const rank = ({ usable, status }) => (usable ? -1 : ORDER.indexOf(status));

export function ConceptsRoom() {
  const chooser = useRef(null);
  const list = [...concepts()].sort((a, b) => rank(a) - rank(b));
  useEffect(() => {
    const paste = (event) => {
      if (event.clipboardData?.files.length) addFiles([...event.clipboardData.files]);
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  const choose = ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) importFile(file);
  };
  return html`
    <section class="concepts-room" aria-labelledby="concepts-title" ...${takePhotos}>
      <h1 class="sr" id="concepts-title">Concepts</h1>
      <${TeachForm} />
      <div class="wall scroll">
        <header class="room-head">
          <h2>Your concepts</h2>
          <p>What your server has learned. Each one is a single small file that you can keep and share.</p>
          <input class="sr" id="import-file" ref=${chooser} type="file" accept=".safetensors,.zip" tabindex="-1" aria-hidden="true" onChange=${choose} />
          <button type="button" class="small" id="import" onClick=${() => chooser.current.click()}>Import a file</button>
        </header>
        <p class="alert" id="concepts-alert" role="alert" hidden=${!alert.value}>${alert.value}</p>
        <${Trainings} />
        <ul class="concept-list" id="concept-list" aria-label="Concepts">
          ${list.map((concept) => html`<${Card} key=${concept.id} concept=${concept} />`)}
        </ul>
        ${store.conceptsRead.value && list.length === 0 && html`<p class="empty" id="concepts-empty">No concepts yet. Teach the first one here, or import a file.</p>`}
        <p class="sr" id="concepts-status" role="status">${said.value}</p>
      </div>
      <${PhotoDialog} />
      <${AgainDialog} />
    </section>
  `;
}
