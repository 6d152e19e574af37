// What can be done with one image.

import { deleteImage } from "../../server/api.js";
import { forgetImages } from "../../server/jobs.js";
import { confirmed } from "../../shared/confirm.js";
import { saveBlob } from "../../shared/download.js";
import { keepSeed, restore } from "../../shared/draft.js";
import { html } from "../../shared/html.js";
import { pictureAt } from "../../shared/pictures.js";
import { requestIn } from "../../shared/png.js";
import { mentionedNames } from "../../shared/prompt.js";
import { notify, store } from "../../shared/store.js";
import { editImage } from "../../edit/begin.js";
import { beforeOf } from "../../edit/request.js";
import { beginCompare, compareEdit } from "./compare-state.js";
import { Favourite } from "../favourite.js";
import { beginGrid } from "../grid/form.js";
import { again, vary } from "../send.js";

/** The image's own request, its gates exact: its file says it, also where it is the cell of a sweep. */
async function requestOf(image, job) {
  const { blob } = await pictureAt(image.url);
  return (await requestIn(blob)) ?? job.request ?? {};
}

export const fileName = (request, image) =>
  `${[...mentionedNames(request?.prompt ?? "").keys(), "seed", image.seed].join("-")}.png`;

/** Delete images after a question; true if they are gone. */
export async function deleteImages(images) {
  const many = images.length > 1;
  const sure = await confirmed({
    title: many ? `Delete ${images.length} images?` : "Delete this image?",
    text: many ? "The files go for good." : "The file goes for good.",
    yes: "Delete",
  });
  if (!sure) return false;
  const gone = new Set();
  try {
    for (const { id } of images) {
      await deleteImage(id).catch((error) => {
        if (error.status !== 404) throw error;
      });
      gone.add(id);
    }
  } catch (error) {
    notify(error.message);
  }
  forgetImages(gone);
  return gone.size === images.length;
}

export function Actions({ job, image, k }) {
  const name = `image ${k + 1}`;
  const act = (text, action, style = "") => {
    const run = async () => {
      try {
        await action();
      } catch (error) {
        notify(error.message);
      }
    };
    return html`<button type="button" class="small ${style}" aria-label="${text}, ${name}" onClick=${run}>${text}</button>`;
  };
  const before = beforeOf(job);
  const useSettings = async () => {
    restore(await requestOf(image, job), image.seed);
    document.getElementById("prompt")?.focus({ preventScroll: true });
  };
  const grid = async () => {
    await useSettings();
    beginGrid();
  };
  const remove = async () => {
    if (await deleteImages([image])) document.getElementById("prompt")?.focus();
  };
  const download = async () => saveBlob((await pictureAt(image.url)).blob, fileName(job.request, image));
  return html`
    <div class="actions" role="group" aria-label="What to do with ${name}">
      <${Favourite} id=${image.id} name=${name} />
      ${before && act("Before and after", () => compareEdit(before, image), "primary")}
      ${act("Again", async () => again({ ...(await requestOf(image, job)), num_images: job.request?.num_images }))}
      ${act("Vary", async () => vary(image, await requestOf(image, job)))}
      ${act("Edit this", () => editImage(image, job.request?.prompt ?? ""))}
      ${act("Compare", () => beginCompare({ image }))}
      ${act("Use as grid", grid)} ${act("Use these settings", useSettings)} ${act("Keep this seed", () => keepSeed(image.seed))}
      ${act("Download", download)}
      <button type="button" class="small" aria-expanded=${String(store.details.value)} onClick=${() => (store.details.value = !store.details.value)}>Details</button>
      ${act("Delete", remove, "quiet")}
    </div>
  `;
}
