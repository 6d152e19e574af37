// What the browser keeps: for this tab ("session") or for good ("local"). Never a key, never a photo.

const storage = { session: sessionStorage, local: localStorage };
const slot = (name) => `perfusion.${name}`;

/** What was kept under this name, or `otherwise`. */
export function kept(where, name, otherwise) {
  try {
    const text = storage[where].getItem(slot(name));
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** Keep a value; a usual one is not kept at all. */
export function keep(where, name, value) {
  try {
    if (isUsual(name, value)) storage[where].removeItem(slot(name));
    else storage[where].setItem(slot(name), JSON.stringify(value));
  } catch {
    // A full or forbidden storage costs the memory of this page, and nothing else.
  }
}

const isUsual = (name, value) =>
  value === null || (Array.isArray(value) && value.length === 0) || (name === "sharp-pixels" && value === true);
