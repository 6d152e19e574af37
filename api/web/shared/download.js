// Saving bytes that came with an API key, which a plain link could not send.

/** Hand a blob to the browser's downloads under this file name. */
export function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
