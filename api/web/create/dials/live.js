// Live: with a fixed seed, the same image at the strength of the dial, as fast as it can be made.
//
// The first touch asks for a strip: the image at seven strengths in one batch, with few steps. The
// dial then shows the nearest of them at once. Where it rests, the image is made sharp.

import { deleteJob, generate } from "../../server/api.js";
import { hasEnded } from "../../server/events.js";
import { addRecent, ended, follow } from "../../server/jobs.js";
import { gateOf, keepSeed, settingOf } from "../../shared/draft.js";
import { signal } from "../../shared/html.js";
import { findConcept, notify, store } from "../../shared/store.js";
import { readRequest } from "../request.js";
import { shownImage } from "../stage/stage-state.js";

const BETAS = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];
const FAST_STEPS = 5;
const REST_MS = 350;

let timer = 0;
let rests = 0;
/** The strip that was asked for: its key, its job and its images. */
let strip = { key: "", job: /** @type {any} */ (null), images: /** @type {any[]} */ ([]) };
/** The image of the stage: `{image, sharp}`, or null. */
export const liveImage = signal(/** @type {any} */ (null));

/** Begin or end; the seed is held, or no two images would be the same. */
export function toggleLive(name) {
  const live = store.live.value;
  if (live.on && live.name === name) {
    stopLive();
    return;
  }
  if (store.draft.value.seed === "") {
    keepSeed(shownImage()?.image.seed ?? Math.floor(Math.random() * 2 ** 32));
  }
  store.grid.value = null;
  store.live.value = { on: true, name, state: "" };
  askForStrip(name);
}

export function stopLive() {
  clearTimeout(timer);
  dropStrip();
  liveImage.value = null;
  if (store.live.value.on) store.live.value = { on: false, name: null, state: "" };
}

/** The dial moved. */
export function liveMoved(name) {
  const live = store.live.value;
  if (!live.on || live.name !== name) return;
  showNearest(name);
  clearTimeout(timer);
  timer = setTimeout(() => rest(name), REST_MS);
}

function showNearest(name) {
  const concept = findConcept(name);
  if (!concept || strip.images.length === 0) return;
  const { beta } = gateOf(concept);
  const distance = (k) => Math.abs(BETAS[k] - beta);
  const k = BETAS.reduce((best, _, each) => (distance(each) < distance(best) ? each : best), 0);
  liveImage.value = { image: strip.images[k], sharp: false };
}

/** What the strip depends on: everything but this concept's own gate. */
function stripRequest(name) {
  const { body } = readRequest();
  if (!body) return null;
  const steps = Math.min(FAST_STEPS, Number(settingOf("num_inference_steps")) || FAST_STEPS);
  const concepts = body.concepts.filter((gate) => gate.name !== name);
  const prompt = body.prompt.replace(new RegExp(`<${name}:[^<>]*>`, "g"), `<${name}>`);
  const sweep = { axes: [{ field: `beta:${name}`, values: BETAS }] };
  return { ...body, prompt, concepts, num_images: 1, num_inference_steps: steps, attention_maps: false, sweep };
}

async function askForStrip(name) {
  const request = stripRequest(name);
  if (!request) return;
  const key = JSON.stringify(request);
  if (strip.key === key) return;
  dropStrip();
  strip = { key, job: null, images: [] };
  tell("Making a quick strip of seven strengths.");
  try {
    const { job } = await generate(request);
    if (strip.key !== key) {
      discard(job);
      return;
    }
    strip.job = follow(job);
    const done = await ended(job);
    if (strip.key !== key) return;
    strip.images = done.images;
    tell("");
    showNearest(name);
  } catch (error) {
    stopLive();
    notify(error.message);
  }
}

/** Where the dial rests, the image is made with all steps; a strip that is out of date, too. */
async function rest(name) {
  const mine = ++rests;
  await askForStrip(name);
  const { body } = readRequest();
  if (!body || !store.live.value.on) return;
  tell("Sharpening.");
  try {
    const { job } = await generate({ ...body, num_images: 1 });
    const done = await ended(job);
    const latest = JSON.stringify(readRequest().body) === JSON.stringify(body);
    if (store.live.value.on && latest && done.images.length > 0) showSharp(done);
    else discard(done);
  } catch (error) {
    notify(error.message);
  }
  if (mine === rests) tell("");
}

function showSharp(job) {
  liveImage.value = { image: job.images[0], sharp: true };
  addRecent(job);
  store.stage.value = { jobId: job.id, index: null };
}

const tell = (state) => {
  if (store.live.value.on) store.live.value = { ...store.live.value, state };
};

function dropStrip() {
  if (strip.job) discard(strip.job.peek());
  strip = { key: "", job: null, images: [] };
}

/** A strip is a means to an end: it is not kept. */
function discard(job) {
  if (hasEnded(job)) deleteJob(job.id).catch(() => {});
  else ended(job).then(() => deleteJob(job.id)).catch(() => {});
}
