// Saving bytes that came with an API key, which a plain link could not send.

import { el } from "./dom.js";

/** Hand a blob to the browser's downloads under this file name. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
