// Images of the server as blob URLs: an <img> cannot send the API key itself.

import { imageFile, jobPreview } from "./api.js";

const images = new Map();
const previews = new Map();

/** `{blob, url}` of an image, fetched once: an image never changes. */
export function imageOf(id) {
  if (!images.has(id)) {
    const pending = imageFile(id).then((blob) => ({ blob, url: URL.createObjectURL(blob) }));
    pending.catch(() => images.delete(id));
    images.set(id, pending);
  }
  return images.get(id);
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
