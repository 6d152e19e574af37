// A concept's face: the last preview of its training, over a quiet tile with its first letter.

import { el } from "./dom.js";
import { previewOf } from "./image-cache.js";

/** A decorative element; `size` is "", "small" or "tiny". */
export function face({ name, job_id: jobId, status }, size = "") {
  const tile = el("div", { class: `face ${size}`, "aria-hidden": "true" }, el("span", {}, name[0]));
  tile.style.setProperty("--hue", String(hueOf(name)));
  if (jobId && status === "ready") {
    previewOf(jobId).then((url) => url && tile.append(el("img", { src: url, alt: "" })));
  }
  return tile;
}

const hueOf = (name) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
