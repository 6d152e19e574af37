// The browser page: what to draw, the progress, and the image. The worker does the rest.

import { saveBlob } from "../shared/download.js";
import { FAINTEST, STEP, STRONGEST, inWords, strengthText } from "../shared/gate.js";
import { withXmp } from "./png.js";

/** An element of index.html. @returns {any} */
const element = (id) => document.getElementById(id);
const [prompt, dials, seed, canvas] = ["prompt", "dials", "seed", "canvas"].map(element);
const [button, progress, status, problem, save] = ["draw", "progress", "status", "problem", "save"].map(element);

/** What the command wrote about this page's prompts. @type {any} */
let drawing;
/** @type {Worker | undefined} */
let worker;
/** What is drawn now, or waits for the files. @type {any} */
let asked;
let isLoaded = false;

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const name = () => `${drawing.prompts[asked.prompt].text}, seed ${asked.seed}`;

/** What a worker tells, by its name. */
const heard = {
  loading({ bytes }) {
    show(Math.min(1, bytes / drawing.bytes), `Loading: ${megabytes(bytes)} of ${megabytes(drawing.bytes)} MB.`);
  },
  loaded() {
    isLoaded = true;
    worker?.postMessage(asked);
  },
  step({ number }) {
    const steps = drawing.steps.length;
    show(number / steps, `Step ${number + 1} of ${steps}.`);
  },
  drawn({ pixels }) {
    const { side } = drawing;
    Object.assign(canvas, { width: side, height: side });
    canvas.getContext("2d").putImageData(new ImageData(pixels, side, side), 0, 0);
    canvas.setAttribute("aria-label", name());
    save.hidden = false;
    finish(`Drawn: ${name()}. This page needs no server any more.`);
  },
  failed({ reason }) {
    fail(isLoaded ? "The image could not be drawn" : "The page could not be loaded", reason);
  },
};

function show(share, words) {
  progress.hidden = false;
  progress.value = share;
  status.textContent = words;
}

function finish(words) {
  progress.hidden = true;
  status.textContent = words;
  button.textContent = "Draw";
  button.setAttribute("aria-disabled", "false");
}

function fail(what, reason) {
  if (!isLoaded) {
    worker?.terminate();
    worker = undefined;
  }
  problem.textContent = `${what}: ${reason} Press the button to try again.`;
  problem.hidden = false;
  finish("");
}

/** One dial for each concept of the chosen prompt, at the bias that the command chose. */
function showDials() {
  for (const dial of dials.querySelectorAll(".field")) dial.remove();
  for (const [k, { placeholder, superclass, beta }] of drawing.prompts[prompt.selectedIndex].concepts.entries()) {
    const label = Object.assign(document.createElement("label"), { htmlFor: `dial-${k}` });
    const dial = Object.assign(document.createElement("input"), { id: `dial-${k}`, type: "range" });
    // A range grows to the right, and a stronger concept has a smaller bias.
    Object.assign(dial, { min: String(-FAINTEST), max: String(-STRONGEST), step: String(STEP) });
    dial.value = String(-beta);
    dial.setAttribute("aria-describedby", "dials-hint");
    const tell = () => {
      const words = `${strengthText({ beta: -dial.value })}, ${inWords(-dial.value)}`;
      label.textContent = `${placeholder} (${superclass}): ${words}`;
      dial.setAttribute("aria-valuetext", words);
    };
    dial.addEventListener("input", tell);
    tell();
    const field = Object.assign(document.createElement("div"), { className: "field" });
    field.append(label, dial);
    dials.append(field);
  }
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  problem.hidden = true;
  const betas = [...dials.querySelectorAll("input")].map((dial) => -Number(dial.value));
  asked = { task: "draw", prompt: prompt.selectedIndex, betas, seed: Number(seed.value) };
  if (worker) {
    worker.postMessage(asked);
    return;
  }
  worker = new Worker("play/worker.js", { type: "module" });
  worker.addEventListener("message", ({ data }) => heard[data.told](data));
  worker.addEventListener("error", () => fail("The page could not be loaded", "its worker did not start."));
  worker.postMessage({ task: "load", drawing });
});

save.addEventListener("click", () => {
  const { xmp } = drawing.prompts[asked.prompt];
  const file = `${name().replace(/[^\w-]+/g, "-")}.png`;
  canvas.toBlob(async (png) => saveBlob(await withXmp(png, xmp), file), "image/png");
});

try {
  const response = await fetch("drawing.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}.`);
  drawing = await response.json();
  prompt.append(...drawing.prompts.map(({ text }) => new Option(text)));
  prompt.disabled = false;
  prompt.addEventListener("change", showDials);
  showDials();
  finish("");
  button.textContent = `Load ${megabytes(drawing.bytes)} MB and draw`;
} catch (error) {
  problem.textContent = `The prompts could not be loaded: ${error.message} Open the page again.`;
  problem.hidden = false;
}
