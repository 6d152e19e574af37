// Whether the server can work: asked now and then, and at once when a request does not get through.

import { access, ready } from "./api.js";
import { store } from "../shared/store.js";

const WHILE_WAITING_MS = 3000;
const WHILE_READY_MS = 30000;

/** Keep asking /readyz; `whenReady` is called each time that the server becomes ready, and told whether it was away. */
export function watchConnection(whenReady) {
  let timer = 0;
  let asking = false;

  async function ask() {
    clearTimeout(timer);
    if (asking) return;
    asking = true;
    const found = await look();
    asking = false;
    const before = store.connection.value;
    if (before.state !== found.state || before.detail !== found.detail) store.connection.value = found;
    if (found.state === "ready" && before.state !== "ready") {
      const wasAway = before.state !== "connecting";
      if (wasAway) store.returns.value += 1;
      whenReady(wasAway);
    }
    timer = setTimeout(ask, found.state === "ready" ? WHILE_READY_MS : WHILE_WAITING_MS);
  }

  access.addEventListener("lost", () => {
    if (store.connection.value.state === "ready") ask();
  });
  addEventListener("offline", ask);
  addEventListener("online", ask);
  ask();
}

async function look() {
  try {
    await ready();
    return { state: "ready", detail: "" };
  } catch (error) {
    return { state: error.status === 0 ? "away" : "waiting", detail: whatIsMissing(error) };
  }
}

function whatIsMissing(error) {
  // What a worker does, or why it cannot work, says more than that no worker is there.
  const loading = new Set((error.workers ?? []).map(({ detail }) => detail));
  if (loading.size > 0) return `Not ready yet. ${[...loading].join(" ")}`;
  const parts = error.errors?.map(({ detail }) => detail).filter(Boolean) ?? [];
  const more = parts.filter((part) => !error.message.includes(part));
  return [error.message, ...more].join(" ");
}
