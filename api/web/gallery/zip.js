// The selected images as one zip file; their bytes stay as they are, with all that they say.

import { downloadZip as zipOf } from "../vendor/client-zip.js";
import { fileAt } from "../server/api.js";
import { saveBlob } from "../shared/download.js";

/** Save the images; a name that comes twice gets its image's id. */
export async function downloadZip(images, nameOf) {
  const names = new Set();
  async function* files() {
    for (const image of images) {
      const plain = nameOf(image.request, image);
      const name = names.has(plain) ? plain.replace(/\.png$/, `-${image.id}.png`) : plain;
      names.add(name);
      yield { name, lastModified: new Date(image.created_at), input: await fileAt(image.url) };
    }
  }
  saveBlob(await zipOf(files()).blob(), `perfusion-${images.length}-images.zip`);
}
