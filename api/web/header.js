// The bar that stays: the rooms, the base model, and whether the server can work.

import { restoreImage, takeFile } from "./create/dropped.js";
import { html } from "./shared/html.js";
import { ForgetKey } from "./shared/access.js";
import { ROOMS, addressOf } from "./shared/router.js";
import { notify, store } from "./shared/store.js";

const STATES = { connecting: "Connecting", ready: "Ready", waiting: "Not ready", away: "No connection" };

export function Header() {
  const { state, detail } = store.connection.value;
  const base = store.base.value;
  const { width, height } = base?.resolution ?? {};
  const model = base ? [base.name, width && `${width} × ${height}`].filter(Boolean).join(" · ") : "";
  // An image that is dropped on Create brings its settings back.
  const drop = (event) => {
    event.preventDefault();
    event.stopPropagation();
    const id = event.dataTransfer.getData("application/x-perfusion-image");
    const [file] = event.dataTransfer.files;
    const taken = id ? restoreImage(id) : file && takeFile(file);
    taken?.catch((error) => notify(error.message));
  };
  return html`
    <header class="bar">
      <p class="brand"><img src="web/icon.svg" alt="" width="28" height="28" /> <span>Perfusion</span></p>
      <nav aria-label="Rooms">
        ${Object.entries(ROOMS).map(([room, label]) => html`
          <a key=${room} href=${addressOf(room)} aria-current=${store.room.value === room ? "page" : undefined}
            ...${room === "create" ? { onDrop: drop } : {}}>${label}</a>
        `)}
      </nav>
      <p class="connection" id="connection" data-state=${state} title=${detail || STATES[state]}><span class="dot" aria-hidden="true"></span> <span class="sr">Server: </span>${STATES[state]}</p>
      <p class="model" id="model" hidden=${!model}><span class="sr">Base model: </span>${model}</p>
      <${ForgetKey} />
      <a class="docs" href="docs" aria-label="API documentation">API</a>
    </header>
  `;
}
