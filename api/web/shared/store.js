// The page's whole state, in signals: components that read one are drawn again when it changes.

import { effect, signal } from "./html.js";
import { keep, kept } from "./kept.js";

/** @typedef {import("../server/types.js").Concept} Concept */
/** @typedef {import("../server/types.js").Gate} Gate */

const NO_DRAFT = { prompt: "", seed: "", settings: {}, gates: {} };

export const store = {
  /** "create", "concepts" or "gallery". */
  room: signal("create"),
  /** Whether the server can work: `state` is "connecting", "ready", "waiting" or "away". */
  connection: signal({ state: "connecting", detail: "" }),
  /** How often the server became ready again: what could not be read while it was away is asked for again. */
  returns: signal(0),
  /** Whether the server waits for an API key, and what it said to the last one. */
  key: signal({ needed: false, known: false, error: "" }),
  /** GET /models, or null while no worker has told it. */
  base: signal(/** @type {any} */ (null)),
  /** Whether concepts and generations were asked for once: nothing shown before then may move. */
  asked: signal(false),
  concepts: signal(/** @type {Concept[]} */ ([])),
  conceptsRead: signal(false),
  /** The job ids of the trainings shown in Concepts, newest first. */
  trainings: signal(/** @type {string[]} */ ([])),
  /** The generations in the film strip, newest first, and the cursor of the older ones. */
  recent: signal({ ids: /** @type {string[]} */ ([]), cursor: null, read: false }),

  /** What is being asked for in Create; it outlives a reload. */
  draft: signal({ ...NO_DRAFT, ...kept("session", "draft", {}) }),
  /** What the server or the page refuses, by JSON pointer; "" is about no field. */
  refusals: signal(/** @type {Record<string, string>} */ ({})),
  /** A grid to generate: `{axes: [{field, text}, ...]}`, or null. */
  grid: signal(/** @type {any} */ (null)),
  /** The picture that an edit starts from, its strokes and its options, or null. */
  edit: signal(/** @type {any} */ (null)),
  sending: signal(false),

  /** What the stage shows: a job, one of its images (null: all), and how. */
  stage: signal({ jobId: /** @type {?string} */ (null), index: /** @type {?number} */ (null) }),
  /** Two images side by side: `{a, b, split}`, or null. */
  compare: signal(/** @type {any} */ (null)),
  details: signal(false),
  sharp: signal(kept("local", "sharp-pixels", true)),
  favourites: signal(/** @type {string[]} */ (kept("local", "favourites", []))),
  live: signal(/** @type {any} */ ({ on: false, name: null, state: "" })),

  gallery: signal({ items: /** @type {any[]} */ ([]), cursor: null, read: false, busy: false }),
  filters: signal({ q: "", concept: "", favourites: false }),
  selected: signal(/** @type {string[]} */ ([])),

  /** The toys that one click teaches: what is still to be done, or null. */
  toys: signal(/** @type {any} */ (kept("session", "toys", null))),
  /** A sentence for everyone: spoken, and shown for a while. */
  notice: signal({ text: "", action: /** @type {any} */ (null), at: 0 }),
  /** The question that is open, or null. */
  question: signal(/** @type {any} */ (null)),
};

effect(() => keep("session", "draft", store.draft.value));
effect(() => keep("session", "toys", store.toys.value));
effect(() => keep("local", "favourites", store.favourites.value));
effect(() => keep("local", "sharp-pixels", store.sharp.value));
// What the browser keeps for good is the same in all its tabs.
addEventListener("storage", () => {
  store.favourites.value = kept("local", "favourites", []);
  store.sharp.value = kept("local", "sharp-pixels", true);
});

/** What was refused is changed now. */
export function clearRefusal(pointer) {
  if (!(pointer in store.refusals.value)) return;
  const { [pointer]: _, ...others } = store.refusals.value;
  store.refusals.value = others;
}

/**
 * Say something to everyone.
 * @param {string} text
 * @param {?{text: string, run: () => any}} action
 */
export function notify(text, action = null) {
  store.notice.value = { text, action, at: Date.now() };
}

export const concepts = () => store.concepts.value;
/** @returns {?Concept} */
export const findConcept = (name) => store.concepts.value.find((concept) => concept.name === name) ?? null;
export const conceptOfJob = (job) =>
  store.concepts.value.find((concept) => concept.id === job.concept_id || concept.job_id === job.id) ?? null;
