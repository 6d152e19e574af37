// What one tab of this browser changes on the server is shown in the others.

import { access } from "./api.js";
import { forgetImages } from "./jobs.js";

// Several changes at once, such as twenty deleted images, are read once.
const SOON_MS = 200;

/** Call `again` when another tab has changed something on the server. */
export function watchTabs(again) {
  const tabs = new BroadcastChannel("perfusion");
  let timer = 0;
  // Only tabs of the same origin hear a channel.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  access.addEventListener("done", (event) => tabs.postMessage(/** @type {CustomEvent} */ (event).detail));
  tabs.addEventListener("message", ({ data: { method, path } }) => {
    const [, image] = /^images\/([^/]+)$/.exec(path) ?? [];
    if (method === "DELETE" && image) forgetImages(new Set([decodeURIComponent(image)]));
    clearTimeout(timer);
    timer = setTimeout(again, SOON_MS);
  });
}
