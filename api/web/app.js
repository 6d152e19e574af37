// The page's beginning: its rooms, then what the server knows, as it becomes ready.

import { ConceptsRoom } from "./concepts/room.js";
import { CreateRoom } from "./create/room.js";
import { show } from "./create/stage/stage-state.js";
import { GalleryRoom } from "./gallery/room.js";
import { loadBaseModel } from "./server/base-model.js";
import { readConcepts, readTrainings } from "./server/concepts.js";
import { watchConnection } from "./server/connection.js";
import { watchTabs } from "./server/tabs.js";
import { hasEnded } from "./server/events.js";
import { readRecent } from "./server/jobs.js";
import { KeyPanel, startAccess } from "./shared/access.js";
import { Question } from "./shared/confirm.js";
import { Header } from "./header.js";
import { keepFocus } from "./keep-focus.js";
import { effect, html, render } from "./shared/html.js";
import { Notice } from "./shared/notice.js";
import { startRouter } from "./shared/router.js";
import { notify, store } from "./shared/store.js";
import { startToys } from "./welcome/toys.js";

const ROOMS = { create: CreateRoom, concepts: ConceptsRoom, gallery: GalleryRoom };

function Page() {
  const Room = ROOMS[store.room.value];
  const { state, detail } = store.connection.value;
  const needed = store.key.value.needed;
  const missing = state === "waiting" || state === "away";
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the room</a>
    <${Header} />
    <div id="banner" class="banner" role="status" hidden=${!missing}>${detail}</div>
    <main id="main" tabindex="-1">
      <${KeyPanel} />
      ${!needed && html`<${Room} />`}
    </main>
    <${Question} />
    <${Notice} />
  `;
}

// The hash is the room's address.
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

/** Everything that the server knows; again after a key was entered. */
async function fill() {
  try {
    const [jobs] = await Promise.all([readRecent(), readConcepts(), readTrainings(), loadBaseModel()]);
    const worthSeeing = jobs.find((job) => !hasEnded(job) || job.images.length > 0);
    if (worthSeeing && !store.stage.value.jobId && !store.edit.value) show(worthSeeing.id);
  } catch (error) {
    // A missing key and a server that is away are told by the key panel and the banner.
    if (error.status !== 401 && error.status !== 0) notify(error.message);
  } finally {
    store.asked.value = true;
  }
}

/** What the server has now, where it may have changed without this tab. */
async function readAgain() {
  if (store.key.value.needed) return;
  try {
    await Promise.all([readConcepts(), readTrainings(), readRecent()]);
  } catch {
    // The next return, or the banner, says more.
  }
}

startRouter();
startAccess(fill);
// What was refused belongs to the room where it was refused.
effect(() => {
  if (store.room.value) store.refusals.value = {};
});
effect(() => {
  document.documentElement.classList.toggle("sharp", store.sharp.value);
});
const page = /** @type {HTMLElement} */ (document.getElementById("page"));
render(html`<${Page} />`, page);
keepFocus(page);
const opening = fill();
watchConnection(async (wasAway) => {
  await opening;
  if (!store.conceptsRead.value) return fill();
  if (wasAway) readAgain();
  if (wasAway || !store.base.value) await loadBaseModel();
});
watchTabs(readAgain);
startToys();
// A file that is dropped next to its place must not replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
// Much may come from elsewhere while the tab is away: from a command line, or another person.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) readAgain();
});
