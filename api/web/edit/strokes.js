// What is painted anew, as strokes and boxes in pixels of the picture, and the mask that they make.

/**
 * @typedef {{tool: "brush"|"erase", size: number, points: Array<[number, number]>}} Line
 * @typedef {{tool: "box", box: [number, number, number, number]}} Box
 * @typedef {{tool: "mask", alpha: OffscreenCanvas}} Mask
 * @typedef {Line | Box | Mask} Stroke
 */

/** Draw strokes on a context that is scaled to the picture's pixels. @param {Stroke[]} strokes */
export function draw(context, strokes, colour) {
  context.lineCap = "round";
  context.lineJoin = "round";
  context.fillStyle = colour;
  context.strokeStyle = colour;
  for (const stroke of strokes) {
    context.globalCompositeOperation = stroke.tool === "erase" ? "destination-out" : "source-over";
    if (stroke.tool === "box") context.fillRect(...stroke.box);
    else if (stroke.tool === "mask") drawMask(context, stroke, colour);
    else drawLine(context, stroke);
  }
  context.globalCompositeOperation = "source-over";
}

function drawLine(context, { size, points }) {
  const [[x, y], ...others] = points;
  context.lineWidth = size;
  context.beginPath();
  // A single press is a dot, and a line without length is drawn as nothing.
  if (others.length === 0) {
    context.arc(x, y, size / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.moveTo(x, y);
  for (const point of others) context.lineTo(...point);
  context.stroke();
}

function drawMask(context, { alpha }, colour) {
  const { width, height } = alpha;
  const tinted = new OffscreenCanvas(width, height);
  const ink = /** @type {OffscreenCanvasRenderingContext2D} */ (tinted.getContext("2d"));
  ink.fillStyle = colour;
  ink.fillRect(0, 0, width, height);
  ink.globalCompositeOperation = "destination-in";
  ink.drawImage(alpha, 0, 0);
  context.drawImage(tinted, 0, 0);
}

/** A mask that is there already, as the first stroke: what is white is painted. @returns {Promise<Mask>} */
export async function maskStroke(file, { width, height }) {
  const bitmap = await createImageBitmap(file);
  const alpha = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (alpha.getContext("2d"));
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const pixels = context.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
  context.putImageData(pixels, 0, 0);
  return { tool: "mask", alpha };
}

/** Whether boxes alone say it: then they are sent as numbers, exact and small. */
export const onlyBoxes = (strokes) => strokes.length > 0 && strokes.every(({ tool }) => tool === "box");

/** A box from corner to corner, in whole pixels inside the picture; null if nothing is in it. */
export function boxBetween([ax, ay], [bx, by], { width, height }) {
  const inside = (value, most) => Math.round(Math.min(most, Math.max(0, value)));
  const left = inside(Math.min(ax, bx), width);
  const top = inside(Math.min(ay, by), height);
  const size = [inside(Math.max(ax, bx), width) - left, inside(Math.max(ay, by), height) - top];
  return size[0] > 0 && size[1] > 0 ? /** @type {Box["box"]} */ ([left, top, ...size]) : null;
}

/** The mask as a PNG as large as the picture: white is painted anew. */
export async function maskFile(strokes, { width, height }) {
  const painted = new OffscreenCanvas(width, height);
  draw(painted.getContext("2d"), strokes, "white");
  const mask = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (mask.getContext("2d"));
  context.fillStyle = "black";
  context.fillRect(0, 0, width, height);
  context.drawImage(painted, 0, 0);
  return mask.convertToBlob({ type: "image/png" });
}
