// Recent generations, from the server, so that they survive a reload.

import { listJobs } from "./api.js";
import { byId, el } from "./dom.js";
import { hasEnded, watchJob } from "./events.js";
import { imageOf } from "./image-cache.js";
import { requestIn } from "./png.js";
import { showJob } from "./stage.js";
import { ago, progressLine, statusWord } from "./words.js";

const PAGE = 12;
const tiles = new Map();
const requests = new Map();
let nextCursor = null;

/** Wire "Show older". */
export function startHistory() {
  byId("film-more").addEventListener("click", async () => {
    const page = await listJobs({ kind: "generate", limit: PAGE, cursor: nextCursor });
    nextCursor = page.next_cursor;
    byId("film").append(...page.items.filter(({ id }) => !tiles.has(id)).map(tile));
    byId("film-more").hidden = nextCursor === null;
  });
}

/** Read the newest generations again. */
export async function refreshHistory() {
  const page = await listJobs({ kind: "generate", limit: PAGE });
  nextCursor = page.next_cursor;
  tiles.clear();
  byId("film").replaceChildren(...page.items.map(tile));
  byId("film-more").hidden = nextCursor === null;
  byId("history").hidden = page.items.length === 0;
  return page.items;
}

/** Put a generation that was just asked for in front. */
export function rememberRequest(job, request) {
  requests.set(job.id, request);
  byId("film").prepend(tile(job));
  byId("history").hidden = false;
}

function tile(job) {
  const picture = el("div", { class: "film-picture" });
  const caption = el("span", { class: "film-caption" }, requests.get(job.id)?.prompt ?? "");
  const note = el("span", { class: "hint" });
  let now = job;
  const item = el(
    "li",
    {},
    el(
      "button",
      { type: "button", onclick: () => showJob(now, requests.get(job.id) ?? null) },
      picture,
      caption,
      note,
    ),
  );
  tiles.set(job.id, item);
  watchJob(job, (latest) => {
    now = latest;
    item.dataset.status = latest.status;
    note.textContent = noteOf(latest);
    if (hasEnded(latest) && latest.images.length > 0) develop(latest, picture, caption);
    else picture.textContent = hasEnded(latest) ? statusWord(latest.status) : percent(latest);
  });
  return item;
}

function percent({ progress }) {
  return progress?.total_steps ? `${Math.round((100 * progress.step) / progress.total_steps)} %` : "…";
}

function noteOf(job) {
  if (!hasEnded(job)) return job.status === "running" ? "running" : progressLine(job);
  const more = job.images.length > 1 ? ` · ${job.images.length} images` : "";
  return `${ago(job.created_at)}${more}`;
}

async function develop(job, picture, caption) {
  try {
    const { blob, url } = await imageOf(job.images[0].id);
    picture.replaceChildren(el("img", { src: url, alt: "" }));
    if (!requests.has(job.id)) requests.set(job.id, await requestIn(blob));
    caption.textContent = requests.get(job.id)?.prompt ?? "";
  } catch (error) {
    picture.textContent = error.message;
  }
}
