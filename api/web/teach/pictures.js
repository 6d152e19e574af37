// The photos to learn from: their files, masks and crops, and what the server says about each.

import { checkPictures, fileAt } from "../server/api.js";
import { hasEnded } from "../server/events.js";
import { ended } from "../server/jobs.js";
import { signal } from "../shared/html.js";
import { clearRefusal } from "../shared/store.js";
import { probe, wholeMask } from "./image-probe.js";
import { shrunk } from "./shrink.js";
import { noteWord } from "./word.js";

export const MAX_PICTURES = 20;
const CHECK_AFTER_MS = 700;

/**
 * @typedef {object} Photo
 * @property {number} key
 * @property {File} file
 * @property {Promise<any>} look what the browser makes of it
 * @property {string} url
 * @property {?Blob} mask
 * @property {string} maskName
 * @property {boolean} readable
 * @property {boolean} transparent
 * @property {number} width
 * @property {number} height
 * @property {string} refusal
 * @property {import("../server/types.js").Finding[]} findings
 * @property {?[number, number, number, number]} crop shares of the picture's sides: x, y, width, height
 * @property {boolean} ownCrop
 * @property {?string} foundMask a URL
 */

/** @type {{value: Photo[], peek: () => Photo[]}} */
export const photos = signal([]);
/** What the check is doing, in words. */
export const checking = signal("");
export const leftOut = signal("");

let nextKey = 1;
let timer = 0;
let superclass = "";
let generation = 0;

export const changePhoto = (key, changes) => {
  photos.value = photos.value.map((photo) => (photo.key === key ? { ...photo, ...changes } : photo));
};

/** Add files; those beyond the limit are left out, and that is said. */
export async function addFiles(files) {
  const room = MAX_PICTURES - photos.value.length;
  const taken = files.slice(0, room).map((file) => ({
    key: nextKey++, file, look: probe(file),
    url: URL.createObjectURL(file), mask: null, maskName: "", readable: true, transparent: false,
    width: 0, height: 0, refusal: "", findings: [], crop: null, ownCrop: false, foundMask: null,
  }));
  photos.value = [...photos.value, ...taken];
  clearRefusal("/images");
  leftOut.value = files.length > room ? `A concept learns from at most ${MAX_PICTURES} photos; the rest was left out.` : "";
  await Promise.all(
    taken.map(async ({ key, look }) => {
      const found = await look;
      const refusal = found.readable ? "" : "This browser cannot show the file; the server is asked about it.";
      changePhoto(key, { ...found, refusal });
    }),
  );
  checkSoon();
}

export function removePhoto(key) {
  const gone = photos.value.find((photo) => photo.key === key);
  if (gone) URL.revokeObjectURL(gone.url);
  photos.value = photos.value.filter((photo) => photo.key !== key);
  leftOut.value = "";
  checkSoon();
}

/** Exchange a photo with the one before it. */
export function moveEarlier(key) {
  const list = [...photos.value];
  const at = list.findIndex((photo) => photo.key === key);
  if (at < 1) return;
  [list[at - 1], list[at]] = [list[at], list[at - 1]];
  photos.value = list;
}

export function setMask(key, mask, name = "painted mask") {
  changePhoto(key, { mask, maskName: mask ? name : "", foundMask: null });
  checkSoon();
}

export function clearPhotos() {
  for (const { url } of photos.value) URL.revokeObjectURL(url);
  photos.value = [];
  leftOut.value = "";
  checking.value = "";
  clearTimeout(timer);
  generation += 1;
}

/** A segmenter looks for this kind of thing. */
export function setKind(word) {
  if (word === superclass) return;
  superclass = word;
  checkSoon();
}

/** Add `images` and, when any photo has one, `masks` to the form, in the same order; large ones shrunk. */
export async function appendPictures(form) {
  const sent = [];
  // One by one: each takes memory.
  for (const { file, look, mask, maskName } of photos.peek()) {
    const named = mask && !(mask instanceof File) ? new File([mask], `${maskName}.png`, { type: "image/png" }) : mask;
    sent.push(await shrunk({ file, look, mask: named }));
  }
  for (const { file } of sent) form.append("images", file, file.name);
  if (!sent.some(({ mask }) => mask)) return;
  for (const { mask, file } of sent) form.append("masks", mask ?? (await wholeMask(file)), mask?.name ?? "mask.png");
}

/** Words about photo or mask number n. */
export function refusePicture(n, text) {
  const photo = photos.value[n];
  if (photo) changePhoto(photo.key, { refusal: text });
  return Boolean(photo);
}

/** Each of a refusal's errors at its photo; the others. */
export function placeRefusals(errors) {
  return errors.filter(({ pointer = "", detail }) => {
    const [, part, n] = /^\/(images|masks)\/(\d+)/.exec(pointer) ?? [];
    return !part || !refusePicture(Number(n), part === "masks" ? `Mask: ${detail}` : detail);
  });
}

export function checkSoon() {
  clearTimeout(timer);
  generation += 1;
  if (photos.value.length === 0) checking.value = "";
  else timer = setTimeout(() => check(generation), CHECK_AFTER_MS);
}

// What is out of date is not shown: photos may have come and gone meanwhile.
async function check(mine) {
  const looked = photos.value;
  checking.value = "Looking at the photos.";
  try {
    const form = new FormData();
    await appendPictures(form);
    if (superclass) form.append("superclass", superclass);
    const { job } = await checkPictures(form);
    const done = hasEnded(job) ? job : await ended(job);
    if (mine !== generation) return;
    checking.value = "";
    noteWord(superclass, done.warnings);
    for (const found of done.pictures ?? []) await note(looked[found.index], found);
  } catch (error) {
    if (mine !== generation) return;
    checking.value = "";
    const others = placeRefusals(error.errors ?? []);
    if ((error.errors ?? []).length === 0 || others.length > 0) checking.value = error.message;
  }
}

async function note(photo, { findings, crop, mask_source: source, mask_url: url }) {
  const { width, height } = await sentSize(photo);
  const [x, y, w, h] = crop;
  const own = photos.value.find(({ key }) => key === photo.key)?.ownCrop;
  const shares = own ? {} : { crop: [x / width, y / height, w / width, h / height] };
  const foundMask = url && source !== "alpha" ? URL.createObjectURL(await fileAt(url)) : null;
  changePhoto(photo.key, { findings, refusal: "", foundMask, ...shares });
}

/** The size of a photo as it is sent, in upright pixels. */
async function sentSize(photo) {
  const bitmap = await createImageBitmap((await shrunk(photo)).file);
  const { width, height } = bitmap;
  bitmap.close();
  return { width, height };
}

/** The part `crops`: what was chosen by hand, in pixels of what is sent; null if nothing was. */
export async function chosenCrops() {
  const list = photos.peek();
  if (!list.some(({ ownCrop }) => ownCrop)) return null;
  return Promise.all(
    list.map(async (photo) => {
      if (!photo.ownCrop || !photo.crop) return null;
      const { width, height } = await sentSize(photo);
      const [x, y, w, h] = photo.crop;
      const box = [x * width, y * height, w * width, h * height].map(Math.round);
      return [box[0], box[1], Math.min(box[2], width - box[0]), Math.min(box[3], height - box[1])];
    }),
  );
}
