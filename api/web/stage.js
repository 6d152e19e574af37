// The stage: one generation, its progress and then its images.

import { byId, el, say } from "./dom.js";
import { hasEnded } from "./events.js";
import { imageOf } from "./image-cache.js";
import { jobProgress } from "./job-progress.js";
import { imageActions } from "./image-actions.js";
import { requestIn } from "./png.js";
import { view } from "./viewer.js";
import { showWarnings } from "./warnings.js";

const SHARP_SLOT = "perfusion.sharp-pixels";
let shown = { id: null, stop() {} };

/** Wire the switch between smooth and sharp enlargement; small base models need the choice. */
export function startStage() {
  const sharp = byId("sharp");
  sharp.checked = localStorage.getItem(SHARP_SLOT) === "yes";
  const apply = () => document.documentElement.classList.toggle("sharp", sharp.checked);
  sharp.addEventListener("change", () => {
    localStorage.setItem(SHARP_SLOT, sharp.checked ? "yes" : "no");
    apply();
  });
  apply();
}

/** Show a generation; `request` is null until its first image tells it. */
export function showJob(job, request = null) {
  shown.stop();
  const list = byId("stage-images");
  byId("stage-blank").hidden = true;
  say(byId("stage-prompt"), request?.prompt);
  list.replaceChildren();
  const { element, stop } = jobProgress(job, {
    what: "Generation",
    onChange(now) {
      showWarnings(now);
      if (!hasEnded(now)) return;
      list.replaceChildren(...now.images.map((image, n) => figure(now, image, n)));
      if (!request && now.images.length > 0) tellPrompt(now.images[0]);
    },
  });
  byId("stage-progress").replaceChildren(element);
  shown = { id: job.id, stop };
}

export const shownJob = () => shown.id;

async function tellPrompt(image) {
  const request = await requestIn((await imageOf(image.id)).blob);
  say(byId("stage-prompt"), request?.prompt);
}

function figure(job, image, n) {
  const { id, seed, width, height } = image;
  const img = el("img", { alt: `Image ${n + 1}, seed ${seed}`, width, height });
  const open = el(
    "button",
    { type: "button", class: "open", "aria-label": `Enlarge image ${n + 1}`, onclick: () => view(job, n) },
    img,
  );
  const item = el(
    "li",
    {},
    open,
    el(
      "div",
      { class: "image-foot" },
      el("span", { class: "seed" }, `Seed ${seed}`),
      ...imageActions(image, n),
    ),
  );
  imageOf(id).then(
    ({ url }) => {
      img.src = url;
    },
    (error) => item.append(el("p", { class: "error" }, error.message)),
  );
  return item;
}
