// Two images to compare: the one on the stage, and another that is chosen in the film strip.

import { jobNow } from "../../server/jobs.js";
import { strengthText } from "../../shared/gate.js";
import { neighbours } from "./stage-state.js";
import { store } from "../../shared/store.js";

/** Compare this image with its neighbour; another frame of the film strip may be chosen instead. */
export function beginCompare({ image }) {
  const { before, after } = neighbours();
  const job = jobNow(store.stage.value.jobId);
  const other = after ?? before;
  const a = labelled(image, job);
  store.compare.value = { a, b: other ? labelled(other.image, jobNow(other.id)) : a, way: "slider", choosing: true };
}

/** Put an image in the second place. */
export function chooseOther(job, k) {
  if (!job.images[k]) return;
  store.compare.value = { ...store.compare.value, b: labelled(job.images[k], job) };
}

/** Compare what an edit began with and what it made. */
export function compareEdit(before, image) {
  store.compare.value = {
    a: { address: before.address ?? null, url: before.url ?? null, label: "Before" },
    b: { ...labelled(image, null), label: "After" },
    way: "slider",
    choosing: false,
  };
}

/** An image by its seed; `strengths` tells it from another one of this seed. */
const labelled = (image, job) => ({
  address: image.url,
  url: null,
  label: `Seed ${image.seed}`,
  strengths: (job?.request?.concepts ?? []).map(strengthText).join(" and "),
});
