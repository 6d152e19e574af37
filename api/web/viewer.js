// One image, large, with what made it; arrow keys go to its neighbours.

import { showWords } from "./attention.js";
import { byId, el, say } from "./dom.js";
import { figures } from "./gate.js";
import { imageActions } from "./image-actions.js";
import { imageOf } from "./image-cache.js";
import { requestIn } from "./png.js";
import { LOCKINGS, SCHEDULERS } from "./settings.js";

const FACTS = {
  num_inference_steps: "Steps",
  guidance_scale: "Guidance",
  scheduler: "Scheduler",
  locking: "Locking",
  negative_prompt: "Negative prompt",
};

const inWords = (value) => SCHEDULERS[value] ?? LOCKINGS[value] ?? value;

let images = [];
let current = 0;

/** Wire the arrow keys and the click beside the image. */
export function startViewer() {
  const dialog = byId("viewer");
  dialog.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (move && images[current + move]) show(current + move);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

/** Enlarge image n of a job. */
export function view(job, n) {
  images = job.images;
  byId("viewer").showModal();
  show(n);
}

async function show(n) {
  current = n;
  const image = images[n];
  const img = byId("viewer-image");
  const { blob, url } = await imageOf(image.id);
  img.src = url;
  img.alt = `Image ${n + 1} of ${images.length}`;
  showWords(image, (map) => {
    if (images[current] === image) img.src = map ?? url;
  });
  const request = (await requestIn(blob)) ?? {};
  say(byId("viewer-prompt"), request.prompt);
  const facts = [
    ["Image", `${n + 1} of ${images.length}`],
    ["Seed", image.seed],
    ["Size in pixels", `${image.width} × ${image.height}`],
    ...(request.concepts ?? []).map(({ name, ...gate }) => [`<${name}>`, figures(gate)]),
    ...(image.presence ?? []).map(({ name, present }) => [`<${name}> in the image`, present ? "yes" : "not found"]),
    ...Object.entries(FACTS).map(([field, label]) => [label, inWords(request[field])]),
  ].filter(([, value]) => value !== undefined && value !== null && value !== "");
  byId("viewer-facts").replaceChildren(
    ...facts.map(([label, value]) => el("div", {}, el("dt", {}, label), el("dd", {}, String(value)))),
  );
  byId("viewer-actions").replaceChildren(...imageActions(image, n, () => byId("viewer").close()));
}
