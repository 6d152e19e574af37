// Two images to compare: the one on the stage, and another that is chosen in the film strip.

import { neighbours } from "./stage-state.js";
import { store } from "../../shared/store.js";

/** Compare this image with its neighbour; another frame of the film strip may be chosen instead. */
export function beginCompare({ image }) {
  const { before, after } = neighbours();
  const other = (after ?? before)?.image ?? image;
  store.compare.value = { a: labelled(image), b: labelled(other), way: "slider", choosing: true };
}

/** Put an image in the second place. */
export function chooseOther(job, k) {
  if (!job.images[k]) return;
  store.compare.value = { ...store.compare.value, b: labelled(job.images[k]) };
}

/** Compare what an edit began with and what it made. */
export function compareEdit(before, image) {
  store.compare.value = {
    a: { address: before.address ?? null, url: before.url ?? null, label: "Before" },
    b: { ...labelled(image), label: "After" },
    way: "slider",
    choosing: false,
  };
}

const labelled = (image) => ({ address: image.url, url: null, label: `Seed ${image.seed}` });
