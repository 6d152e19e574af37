// The photos to learn from: dropped, chosen or pasted; shown with their masks; removable.

import { readLook, wholeMask } from "./look.js";
import { byId, el, say } from "./dom.js";
import { count } from "./words.js";

export const MAX_PICTURES = 20;

let pictures = [];

/** Wire the drop zone, the file picker and pasting. */
export function startPictures() {
  const drop = byId("drop");
  byId("pictures").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    drop.addEventListener(name, () => drop.classList.remove("over"));
  }
  // A file dropped beside the zone must not replace the page.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.target.closest("#teach")) add([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) add([...event.clipboardData.files]);
  });
}

export const pictureCount = () => pictures.length;

/** The first photo's file, or null. */
export const firstPicture = () => pictures[0]?.file ?? null;

/** Add `images` and, when any picture has one, `masks` to the form, in the same order. */
export async function appendPictures(form) {
  for (const { file } of pictures) form.append("images", file, file.name);
  if (!pictures.some(({ mask }) => mask)) return;
  for (const { mask, file } of pictures) {
    form.append("masks", mask ?? (await wholeMask(file)), mask?.name ?? "mask.png");
  }
}

/** Show words about picture or mask number n; the element to focus, or null if there is none. */
export function showPictureError(n, text) {
  const picture = pictures[n];
  if (!picture) return null;
  say(picture.error, text);
  picture.item.classList.add("bad");
  return picture.remove;
}

export function clearPictureErrors() {
  for (const { error, item } of pictures) {
    say(error, "");
    item.classList.remove("bad");
  }
  say(byId("pictures-error"), "");
}

export function clearPictures() {
  for (const { url } of pictures) URL.revokeObjectURL(url);
  pictures = [];
  byId("thumbs").replaceChildren();
  tell();
}

async function add(files) {
  const room = MAX_PICTURES - pictures.length;
  const taken = files.slice(0, room).map(show);
  pictures.push(...taken);
  byId("thumbs").append(...taken.map(({ item }) => item));
  tell();
  say(
    byId("pictures-error"),
    files.length > room ? `A concept learns from at most ${MAX_PICTURES} photos; the rest was left out.` : "",
  );
  await Promise.all(taken.map(look));
}

function show(file) {
  const picture = { file, url: URL.createObjectURL(file), mask: null };
  picture.image = el("img", { alt: file.name, decoding: "async" });
  picture.badge = el("span", { class: "badge", hidden: true });
  picture.error = el("p", { class: "error", hidden: true });
  picture.remove = el(
    "button",
    { type: "button", class: "remove", "aria-label": `Remove ${file.name}`, onclick: () => remove(picture) },
    "×",
  );
  const chooser = el("input", {
    type: "file",
    accept: "image/png,image/jpeg,image/webp",
    "aria-label": `Add a mask for ${file.name}: white where the object is`,
    onchange: (event) => setMask(picture, event.target.files[0]),
  });
  picture.maskText = el("span", {}, "Add a mask");
  picture.item = el(
    "li",
    {},
    el("div", { class: "frame checker" }, picture.image, picture.badge, picture.remove),
    el("label", { class: "mask" }, chooser, picture.maskText),
    picture.error,
  );
  return picture;
}

async function look(picture) {
  const { readable, transparent } = await readLook(picture.file);
  if (readable) picture.image.src = picture.url;
  else picture.image.replaceWith(el("span", { class: "unreadable" }, picture.file.name));
  if (!readable && picture.error.hidden) say(picture.error, "This browser cannot show the file.");
  if (transparent) say(picture.badge, "mask from transparency");
  picture.transparent = transparent;
}

function setMask(picture, mask) {
  picture.mask = mask ?? null;
  picture.maskText.textContent = mask ? `Mask: ${mask.name}` : "Add a mask";
  say(picture.badge, mask ? "own mask" : picture.transparent ? "mask from transparency" : "");
  tell();
}

function remove(picture) {
  const n = pictures.indexOf(picture);
  pictures.splice(n, 1);
  URL.revokeObjectURL(picture.url);
  picture.item.remove();
  tell();
  (pictures[n]?.remove ?? pictures[n - 1]?.remove ?? byId("pictures")).focus();
}

function tell() {
  byId("drop").classList.toggle("small", pictures.length > 0);
  byId("pictures-status").textContent = pictures.length ? `${count(pictures.length, "photo")} chosen` : "";
  const masks = pictures.filter(({ mask }) => mask).length;
  const partly = masks > 0 && masks < pictures.length;
  say(
    byId("masks-note"),
    partly ? "Photos without a mask of their own use their transparency, or count as a whole." : "",
  );
}
