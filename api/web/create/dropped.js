// What is dropped on Create: an image of this server brings its settings back, a photo starts an edit.

import { getImage } from "../server/api.js";
import { restore } from "../shared/draft.js";
import { requestIn } from "../shared/png.js";
import { notify } from "../shared/store.js";
import { editFile } from "../edit/begin.js";

const OURS = "application/x-perfusion-image";

/** The drop handlers of the room. */
export const restoreOrEdit = {
  onDragOver: (event) => event.preventDefault(),
  onDrop: (event) => {
    event.preventDefault();
    event.stopPropagation();
    take(event.dataTransfer).catch((error) => notify(error.message));
  },
};

async function take(data) {
  const id = data.getData(OURS);
  if (id) {
    await restoreImage(id);
    return;
  }
  const [file] = data.files;
  if (file) await takeFile(file);
}

/** Bring back the settings of an image of this server. */
export async function restoreImage(id) {
  const image = await getImage(id);
  restore(image.request ?? {}, image.seed);
  notify("The settings of the image are back.");
}

/** A file from this computer: its settings, if it tells any; else an edit of it. */
export async function takeFile(file) {
  const request = await requestIn(file);
  if (!request) {
    editFile(file);
    return;
  }
  restore(request, request.seed);
  notify("The settings of the image are back.", { text: "Edit it instead", run: () => editFile(file) });
}
