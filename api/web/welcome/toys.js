// One click from an empty server to the first image: teach rex and bruno, then draw them.

import { createConcept, generate } from "../server/api.js";
import { addTraining, readConcepts } from "../server/concepts.js";
import { addRecent, ended } from "../server/jobs.js";
import { setPrompt } from "../shared/draft.js";
import { effect, signal } from "../shared/html.js";
import { findConcept, notify, store } from "../shared/store.js";
import { show } from "../create/stage/stage-state.js";

/** The drawn toys of `perfusion demo`; their photos and masks are files of the page. */
export const TOYS = [
  { name: "rex", superclass: "robot" },
  { name: "bruno", superclass: "teddy" },
];
const PHOTOS = 5;
/** What is drawn once these are learned, in this order. */
const FIRST_IMAGES = [
  { needs: ["rex"], prompt: "a photo of <rex> on the beach" },
  { needs: ["rex", "bruno"], prompt: "<rex> next to <bruno> in the snow" },
];

const photo = async (file) => {
  const answer = await fetch(`web/toys/${file}`);
  if (!answer.ok) throw new Error("The toys' photos cannot be read.");
  return answer.blob();
};

async function teach({ name, superclass }) {
  const form = new FormData();
  for (let k = 0; k < PHOTOS; k += 1) {
    form.append("images", await photo(`${name}-${k}.webp`), `${name}-${k}.webp`);
    form.append("masks", await photo(`${name}-${k}-mask.png`), `${name}-${k}-mask.png`);
  }
  form.append("name", name);
  form.append("superclass", superclass);
  const { job } = await createConcept(form);
  addTraining(job);
}

/** Teach what is not there yet; what happens next survives a reload. */
export async function teachToys() {
  store.toys.value = { next: 0, problem: "" };
  try {
    for (const toy of TOYS) if (!findConcept(toy.name)) await teach(toy);
    await readConcepts();
  } catch (error) {
    store.toys.value = null;
    notify(error.message);
  }
}

/** Draw the first images when their toys are ready, also after a reload. */
export function startToys() {
  const busy = signal(false);
  effect(() => {
    const plan = store.toys.value;
    const waits = busy.value || !store.conceptsRead.value || store.connection.value.state !== "ready";
    const found = store.concepts.value;
    if (!plan || waits) return;
    const next = FIRST_IMAGES[plan.next];
    const failed = found.find(({ name, status }) => isToy(name) && ["failed", "cancelled"].includes(status));
    if (!next || failed) {
      store.toys.value = null;
      if (failed) notify(`${failed.name} was not learned. You can teach it again in Concepts.`);
      return;
    }
    if (!next.needs.every((name) => findConcept(name)?.usable)) return;
    busy.value = true;
    draw(plan, next).finally(() => {
      busy.value = false;
    });
  });
}

const isToy = (name) => TOYS.some((toy) => toy.name === name);

async function draw(plan, { prompt }) {
  try {
    const { job } = await generate({ prompt, num_images: 4, seed: 7 });
    addRecent(job);
    // What someone has begun to write, or looks at, stays.
    const text = store.draft.value.prompt;
    if (!text.trim() || FIRST_IMAGES.some((first) => first.prompt === text)) {
      setPrompt(prompt);
      show(job.id);
    }
    store.toys.value = { ...plan, next: plan.next + 1 };
    await ended(job);
  } catch (error) {
    store.toys.value = null;
    notify(error.message);
  }
}
