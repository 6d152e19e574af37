// The banner while the server is not ready: it says what is missing, and goes away by itself.

import { ready } from "./api.js";
import { byId } from "./dom.js";

const WHILE_WAITING_MS = 3000;
const WHILE_READY_MS = 30000;

/** Keep asking /readyz; `whenReady` is called each time that the server becomes ready. */
export function watchReadiness(whenReady) {
  const banner = byId("banner");
  let wasReady = false;

  async function ask() {
    let missing = null;
    try {
      await ready();
    } catch (error) {
      missing = whatIsMissing(error);
    }
    banner.hidden = missing === null;
    if (missing !== null && banner.textContent !== missing) banner.textContent = missing;
    const isReady = missing === null;
    if (isReady && !wasReady) whenReady();
    wasReady = isReady;
    setTimeout(ask, isReady ? WHILE_READY_MS : WHILE_WAITING_MS);
  }
  ask();
}

function whatIsMissing(error) {
  const parts = error.errors?.map(({ detail }) => detail).filter(Boolean) ?? [];
  const more = parts.filter((part) => !error.message.includes(part));
  return [error.message, ...more].join(" ");
}
