// Filling the form of Create from elsewhere: a concept of the gallery, or an earlier image.

import { byId, reveal } from "./dom.js";
import { addToPrompt, setPrompt } from "./prompt-box.js";
import { useSettings } from "./settings.js";
import { setGates } from "./strengths.js";

/** Go to the prompt and add a concept to it. */
export function insertConcept(name) {
  reveal(byId("create"));
  addToPrompt(`<${name}>`);
}

/** Fill the form from the request of an earlier image, and keep its seed and its gates. */
export function reuse(request, seed) {
  setPrompt(request.prompt ?? "");
  useSettings(request, seed);
  setGates(request.concepts ?? []);
  reveal(byId("create"));
  byId("prompt").focus({ preventScroll: true });
}
