// Beginning an edit: from an image of this server, or from a photo of this computer.

import { setPrompt } from "../shared/draft.js";
import { pictureAt } from "../shared/pictures.js";
import { go } from "../shared/router.js";
import { notify, store } from "../shared/store.js";

const NEW = { open: true, imageId: null, file: null, tool: "brush", size: 12, strokes: [], denoising: "", feather: "", margin: "", keepBackground: false };

/** Go on from a generated image, with its prompt. */
export async function editImage(image, prompt) {
  const { url } = await pictureAt(image.url);
  if (prompt) setPrompt(prompt);
  begin({ imageId: image.id, address: image.url, url, width: image.width, height: image.height });
}

/** Begin with a photo; what the browser cannot show cannot be painted on. */
export async function editFile(file) {
  const url = URL.createObjectURL(file);
  try {
    const photo = new Image();
    photo.src = url;
    await photo.decode();
    begin({ file, url, width: photo.naturalWidth, height: photo.naturalHeight });
  } catch {
    URL.revokeObjectURL(url);
    notify(`${file.name} is no picture that this browser can show. Use a JPEG, PNG or WebP.`);
  }
}

function begin(source) {
  store.compare.value = null;
  store.edit.value = { ...NEW, ...source };
  store.refusals.value = {};
  go("create");
}

/** Leave the edit; the prompt stays. */
export function leaveEdit() {
  store.edit.value = null;
}

export const changeEdit = (changes) => {
  store.edit.value = { ...store.edit.value, ...changes };
};
