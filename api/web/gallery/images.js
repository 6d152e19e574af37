// Reading the gallery: all images, newest first, page by page, as the filters say.

import { listImages } from "../server/api.js";
import { renewed } from "../shared/pages.js";
import { notify, store } from "../shared/store.js";

const PAGE = 60;
let asked = 0;

/** Read the first page; where it is read again, pages behind it stay. */
export async function readGallery({ anew = false } = {}) {
  const mine = ++asked;
  const { q, concept } = store.filters.value;
  store.gallery.value = { ...store.gallery.value, busy: true };
  try {
    const page = await listImages({ limit: PAGE, q: q.trim(), concept });
    if (mine !== asked) return;
    const before = anew ? { items: [], cursor: null } : store.gallery.value;
    store.gallery.value = { ...renewed(page, before), read: true, busy: false };
  } catch (error) {
    if (mine !== asked) return;
    store.gallery.value = { ...store.gallery.value, read: true, busy: false };
    if (error.status !== 401) notify(error.message);
  }
}

/** Read the page behind those that are there. */
export async function readMore() {
  const { items, cursor, busy } = store.gallery.value;
  if (!cursor || busy) return;
  const mine = asked;
  const { q, concept } = store.filters.value;
  store.gallery.value = { ...store.gallery.value, busy: true };
  try {
    const page = await listImages({ limit: PAGE, q: q.trim(), concept, cursor });
    if (mine !== asked) return;
    store.gallery.value = { items: [...items, ...page.items], cursor: page.next_cursor, read: true, busy: false };
  } catch (error) {
    store.gallery.value = { ...store.gallery.value, busy: false };
    notify(error.message);
  }
}

export function setFilter(changes) {
  store.filters.value = { ...store.filters.value, ...changes };
  store.selected.value = [];
  readGallery({ anew: true });
}
