// What a training draws now and then, as a film strip from its first preview to its last.

import { fileAt } from "../server/api.js";
import { hasEnded } from "../server/events.js";
import { html, signal, useEffect } from "../shared/html.js";

// The server draws a preview now and then; asking after each sixteenth of the way misses none.
const PREVIEWS = 16;
/** By job: the URLs, and the sixteenth that was asked for last. @type {Map<string, any>} */
const films = new Map();

function filmOf(id) {
  if (!films.has(id)) films.set(id, { frames: signal(/** @type {string[]} */ ([])), part: -1, seen: new Set() });
  return films.get(id);
}

/** Ask for a new preview where one is due; the same bytes are no new one. */
async function look(job) {
  const film = filmOf(job.id);
  const { step = 0, total_steps: total = 0 } = job.progress ?? {};
  const part = hasEnded(job) ? PREVIEWS : total ? Math.floor((PREVIEWS * step) / total) : 0;
  if (part <= film.part || (step === 0 && !hasEnded(job))) return;
  film.part = part;
  try {
    const blob = await fileAt(`jobs/${job.id}/preview`);
    const key = await fingerprint(blob);
    if (film.seen.has(key)) return;
    film.seen.add(key);
    film.frames.value = [...film.frames.value, URL.createObjectURL(blob)];
  } catch {
    // There is none yet.
  }
}

/** Tells one preview from the next. */
async function fingerprint(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return `${bytes.length} ${bytes.reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7)}`;
}

export function PreviewFilm({ job, name = "the concept" }) {
  const film = filmOf(job.id);
  useEffect(() => {
    look(job);
  }, [job]);
  const frames = film.frames.value;
  if (frames.length === 0) return null;
  return html`
    <ol class="preview-film" aria-label="Previews of ${name}, from the first to the last">
      ${frames.map((url, k) => html`<li key=${url}><img src=${url} alt="Preview ${k + 1} of ${name}" /></li>`)}
    </ol>
  `;
}
