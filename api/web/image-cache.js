// Images of the server as blob URLs: an <img> cannot send the API key itself.

import { attentionMap, imageFile, jobPreview } from "./api.js";

const images = new Map();
const previews = new Map();

/** `{blob, url}` of an image, fetched once: an image never changes. */
export const imageOf = (id) => once(id, () => imageFile(id));

/** `{blob, url}` of the map of an image's word k, fetched once as well. */
export const attentionMapOf = (id, k) => once(`${id} ${k}`, () => attentionMap(id, k));

function once(key, fetchBlob) {
  if (!images.has(key)) {
    const pending = fetchBlob().then((blob) => ({ blob, url: URL.createObjectURL(blob) }));
    pending.catch(() => images.delete(key));
    images.set(key, pending);
  }
  return images.get(key);
}

/** The URL of the last preview of a training that has ended, fetched once; null without one. */
export function previewOf(jobId) {
  if (!previews.has(jobId)) previews.set(jobId, newPreview(jobId));
  return previews.get(jobId);
}

/** The URL of the newest preview; the caller revokes it. Null where there is none yet. */
export async function newPreview(jobId) {
  try {
    return URL.createObjectURL(await jobPreview(jobId));
  } catch {
    return null;
  }
}
