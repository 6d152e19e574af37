// What can be done with one image: keep the file, keep its seed, use its settings again.

import { byId, el } from "./dom.js";
import { saveBlob } from "./download.js";
import { showAlert } from "./field-errors.js";
import { imageOf } from "./image-cache.js";
import { requestIn } from "./png.js";
import { mentionedNames } from "./prompt.js";
import { reuse } from "./reuse.js";
import { keepSeed } from "./settings.js";

/** The buttons of image `n`; `before` runs first, to close what covers the form. */
export function imageActions(image, n, before = () => {}) {
  const act = (text, action) => {
    const label = `${text}, image ${n + 1}`;
    const onclick = async () => {
      before();
      try {
        const { blob } = await imageOf(image.id);
        await action(blob, await requestIn(blob));
      } catch (error) {
        showAlert(byId("create-alert"), error);
      }
    };
    return el("button", { type: "button", class: "small quiet", "aria-label": label, onclick }, text);
  };
  return [
    act("Keep this seed", () => keepSeed(image.seed)),
    act("Download", (blob, request) => saveBlob(blob, fileName(request, image.seed))),
    act("Use these settings", (_, request) => request && reuse(request, image.seed)),
  ];
}

function fileName(request, seed) {
  const names = [...mentionedNames(request?.prompt ?? "").keys()];
  return `${[...names, "seed", seed].join("-")}.png`;
}
