// Large photos are shrunk before they are sent, to the size that the server would store anyway.

const LONGEST_SIDE = 2048; // STORED_SIDE_PIXELS in service/pictures/decoder.py
const LARGE_BYTES = 2 * 1024 ** 2;
const JPEG_QUALITY = 0.95;

/**
 * The files to send for a picture and its mask (null: none), which stay of the same size in pixels.
 * What this browser cannot decode, such as HEIC, is sent as it is, and the server judges it.
 */
export async function shrunk({ file, mask, look }) {
  const { readable, transparent } = await look;
  if (!readable || file.size + (mask?.size ?? 0) <= LARGE_BYTES) return { file, mask };
  try {
    const [picture, cover] = await Promise.all([file, mask].map((part) => part && upright(part)));
    if (Math.max(picture.width, picture.height) <= LONGEST_SIDE) return { file, mask };
    // A mask of another size is the server's to refuse, with the sizes that were chosen.
    if (cover && (cover.width !== picture.width || cover.height !== picture.height)) return { file, mask };
    return {
      file: await smaller(picture, file, transparent ? "image/png" : "image/jpeg"),
      mask: cover && (await smaller(cover, mask, "image/png")),
    };
  } catch {
    return { file, mask };
  }
}

const upright = (file) => createImageBitmap(file, { imageOrientation: "from-image" });

async function smaller(bitmap, file, type) {
  const scale = LONGEST_SIDE / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return new File([await canvas.convertToBlob({ type, quality: JPEG_QUALITY })], file.name, { type });
}
