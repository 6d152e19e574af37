// Following a job: its event stream read with fetch (EventSource cannot send an API key),
// resumed with Last-Event-ID, and plain polling where no stream comes through.

import { createParser } from "../vendor/eventsource-parser.js";
import { ApiError, getJob, jobEvents } from "./api.js";

/** @typedef {import("./types.js").Job} Job */

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
// A browser keeps six connections to one HTTP/1.1 server; streams may not use them all up.
const MAX_STREAMS = 2;
const MAX_SILENT_STREAMS = 3;
const POLL_MS = 1500;

const watched = new Map();
let openStreams = 0;

/** @param {Job} job */
export const hasEnded = (job) => ENDED.has(job.status);

/**
 * Call `listener(job)` now and at every change until the job ends. Watchers of one job share
 * one stream. Returns a function that stops listening. A generation's `preview` and `previews` are data URLs.
 * @param {Job} job
 * @param {(job: Job) => void} listener
 */
export function watchJob(job, listener) {
  let entry = watched.get(job.id);
  if (!entry) {
    entry = { job, listeners: new Set(), stop: new AbortController() };
    if (!hasEnded(job)) {
      watched.set(job.id, entry);
      follow(entry).finally(() => forget(entry));
    }
  }
  entry.listeners.add(listener);
  listener(entry.job);
  return () => {
    entry.listeners.delete(listener);
    if (entry.listeners.size > 0) return;
    forget(entry);
    entry.stop.abort();
  };
}

function forget(entry) {
  if (watched.get(entry.job.id) === entry) watched.delete(entry.job.id);
}

async function follow(entry) {
  const cursor = { lastId: null, silent: 0 };
  while (!hasEnded(entry.job) && !entry.stop.signal.aborted) {
    try {
      if (openStreams < MAX_STREAMS && cursor.silent < MAX_SILENT_STREAMS) {
        await readStream(entry, cursor);
      } else {
        await pause(POLL_MS, entry.stop.signal);
        publish(entry, await getJob(entry.job.id));
      }
    } catch (error) {
      if (entry.stop.signal.aborted) return;
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) return;
      await pause(POLL_MS, entry.stop.signal);
    }
  }
}

async function readStream(entry, cursor) {
  const headers = { Accept: "text/event-stream" };
  if (cursor.lastId !== null) headers["Last-Event-ID"] = cursor.lastId;
  cursor.silent += 1;
  openStreams += 1;
  try {
    const previews = entry.job.kind === "generate";
    const answer = await jobEvents(entry.job.id, { headers, signal: entry.stop.signal, previews });
    for await (const event of parseEvents(answer.body)) {
      if (event.id !== null) cursor.lastId = event.id;
      const job = event.data && JSON.parse(event.data);
      if (job?.id !== entry.job.id) continue;
      cursor.silent = 0;
      publish(entry, job);
      if (hasEnded(job)) return;
    }
  } finally {
    openStreams -= 1;
  }
  await pause(300, entry.stop.signal);
}

function publish(entry, job) {
  entry.job = job;
  for (const listener of Array.from(entry.listeners)) listener(job);
}

/** The events of a text/event-stream body: `{id, type, data}`. */
export async function* parseEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const events = [];
  const parser = createParser({
    onEvent: ({ id, event, data }) => events.push({ id: id ?? null, type: event ?? "message", data }),
  });
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      parser.feed(value);
      while (events.length > 0) yield events.shift();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @returns {Promise<void>} */
function pause(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    const abort = () => {
      clearTimeout(timer);
      done();
    };
    signal.addEventListener("abort", abort, { once: true });
  });
}
