// Looking at a chosen file in the browser, before the server judges it.

// A file can claim more pixels than it is worth decoding here; the server refuses it in words.
const MAX_PIXELS = 60e6;
const SAMPLE_SIDE = 96;
const UNREADABLE = { readable: false, transparent: false, width: 0, height: 0 };

/** Whether the browser can read the picture, whether some of it is transparent, and its size. */
export async function probe(file) {
  try {
    if ((await pngPixels(file)) > MAX_PIXELS) return UNREADABLE;
    const bitmap = await createImageBitmap(file);
    const { width, height } = bitmap;
    const { data } = drawn(bitmap, SAMPLE_SIDE, SAMPLE_SIDE);
    bitmap.close();
    const transparent = data.some((value, index) => index % 4 === 3 && value < 250);
    return { readable: true, transparent, width, height };
  } catch {
    return UNREADABLE;
  }
}

/** A mask for a picture that came without one: its opaque part in white, all of it if opaque. */
export async function wholeMask(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(bitmap, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "black";
  context.fillRect(0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/png" });
}

function drawn(bitmap, width, height) {
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(width, height).getContext("2d"));
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** The pixels that a PNG's header claims; 0 for other files. */
async function pngPixels(file) {
  const head = new DataView(await file.slice(0, 24).arrayBuffer());
  if (head.byteLength < 24 || head.getUint32(0) !== 0x89504e47) return 0;
  return head.getUint32(16) * head.getUint32(20);
}
