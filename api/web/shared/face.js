// A concept's face: its own photo, or the last preview of its training, over a tile with its first letter.

import { conceptPictures } from "../server/api.js";
import { html, useEffect, useState } from "./html.js";
import { Picture } from "./pictures.js";
import { store } from "./store.js";

/** @type {Map<string, Promise<any[]>>} */
const read = new Map();

/** The photos that a concept learned from, read once for each of its files. */
export function photosOf({ id, job_id: jobId, status }) {
  const key = `${id} ${jobId} ${status}`;
  if (!read.has(key)) {
    const pending = conceptPictures(id).then(({ items }) => items);
    pending.catch(() => read.delete(key));
    read.set(key, pending);
  }
  return /** @type {Promise<any[]>} */ (read.get(key));
}

export function usePhotos(concept) {
  const [photos, setPhotos] = useState(/** @type {any[]} */ ([]));
  useEffect(() => {
    let wanted = true;
    if (concept) photosOf(concept).then((found) => wanted && setPhotos(found), () => {});
    return () => {
      wanted = false;
    };
  }, [concept?.id, concept?.job_id, concept?.status, store.returns.value]);
  return photos;
}

/** A decorative element; `size` is "", "small" or "tiny". */
export function Face({ concept, size = "" }) {
  const [photo] = usePhotos(concept);
  return html`
    <span class="face ${size}" aria-hidden="true" style=${{ "--hue": hueOf(concept.name) }}>
      <span class="letter" data-letter=${concept.name[0]}></span>
      ${photo && html`<${Picture} address=${photo.url} />`}
    </span>
  `;
}

export const hueOf = (name) => [...name].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360, 7);
