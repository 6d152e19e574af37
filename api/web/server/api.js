// The REST interface, as promises. Every refusal becomes an ApiError with the server's words.

/** @typedef {import("./types.js").Job} Job */

const KEY_SLOT = "perfusion.api-key";
const RETRIES = 2;

/** Tells `needed` when the server asks for a key, `changed` when one was entered, `lost` when it is away, and `done` of each change on the server. */
export const access = new EventTarget();

export const apiKey = () => sessionStorage.getItem(KEY_SLOT);

export function setApiKey(key) {
  sessionStorage.setItem(KEY_SLOT, key);
  access.dispatchEvent(new Event("changed"));
}

export const dropApiKey = () => sessionStorage.removeItem(KEY_SLOT);

export class ApiError extends Error {
  /**
   * @param {number} status 0: the server cannot be reached
   * @param {any} problem the body of the refusal
   */
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.status = status;
    this.type = String(problem.type ?? "");
    this.errors = Array.isArray(problem.errors) ? problem.errors : [];
    this.workers = Array.isArray(problem.workers) ? problem.workers : [];
  }
}

/**
 * Send a request; the answer when it is a success, else an ApiError. Paths are relative.
 * @param {string} path
 * @param {{method?: string, headers?: Record<string, string>, body?: any, signal?: AbortSignal}} [options]
 */
export async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  const key = apiKey();
  const sent = { ...headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    access.dispatchEvent(new Event("lost"));
    throw new ApiError(0, { detail: "The server cannot be reached. Is it still running?" });
  }
  if (answer.ok) {
    if (method !== "GET") access.dispatchEvent(new CustomEvent("done", { detail: { method, path } }));
    return answer;
  }
  if (answer.status === 401) access.dispatchEvent(new Event("needed"));
  throw new ApiError(answer.status, await problemOf(answer));
}

async function problemOf(answer) {
  const text = await answer.text();
  try {
    return withWait(JSON.parse(text), answer);
  } catch {
    return { detail: `The server answered ${answer.status} ${answer.statusText}.` };
  }
}

function withWait(problem, answer) {
  const seconds = Number(answer.headers.get("Retry-After"));
  if (answer.status !== 429 || !seconds) return problem;
  return { ...problem, detail: `${problem.detail} Try again in ${seconds} s.` };
}

const json = async (path, options) => (await send(path, options)).json();
const JSON_TYPE = { "Content-Type": "application/json" };

// The last request without an answer may have arrived: if it is sent again as it was, its key is the same.
let unanswered = { request: "", key: "" };

/** A POST that may be repeated safely: the same key makes the server answer the same. */
async function submit(path, options) {
  const request = typeof options.body === "string" ? `${path} ${options.body}` : "";
  const key = request && request === unanswered.request ? unanswered.key : randomKey();
  const headers = { ...options.headers, "Idempotency-Key": key };
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await json(path, { ...options, method: "POST", headers });
      unanswered = { request: "", key: "" };
      return answer;
    } catch (error) {
      if (error.status !== 0) throw error;
      unanswered = { request, key };
      if (attempt === RETRIES) throw error;
      await new Promise((done) => setTimeout(done, 400 * 2 ** attempt));
    }
  }
}

// crypto.randomUUID is missing where the page is served without TLS to another machine.
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const segment = encodeURIComponent;
const query = (values) => {
  const known = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(known).toString();
};

export const baseModel = () => json("models");
export const ready = () => send("readyz");

export const listConcepts = (cursor) => json(`concepts?${query({ limit: 100, cursor })}`);
export const createConcept = (form) => submit("concepts", { body: form });
export const trainAgain = (id, options = {}) =>
  submit(`concepts/${segment(id)}/train`, { headers: JSON_TYPE, body: JSON.stringify(options) });
export const changeConcept = (id, changes) =>
  json(`concepts/${segment(id)}`, { method: "PATCH", headers: JSON_TYPE, body: JSON.stringify(changes) });
export const revertConcept = (id) => submit(`concepts/${segment(id)}/revert`, {});
export const deleteConcept = (id) => send(`concepts/${segment(id)}`, { method: "DELETE" });
export const conceptFile = async (id, format = "perfusion") =>
  (await send(`concepts/${segment(id)}/file?${query({ format })}`)).blob();
export const conceptCurve = (id) => json(`concepts/${segment(id)}/curve`);
export const conceptPictures = (id) => json(`concepts/${segment(id)}/pictures`);
export const importConcept = (form) => json("concepts/import", { method: "POST", body: form });
export const checkPictures = (form) => submit("pictures/check", { body: form });

/** Ask for images; `files` (`image`, `mask_image`) make it a form. */
export function generate(body, files = {}) {
  const parts = Object.entries(files).filter(([, file]) => file);
  if (parts.length === 0) return submit("generate", { headers: JSON_TYPE, body: JSON.stringify(body) });
  const form = new FormData();
  form.append("request", JSON.stringify(body));
  for (const [name, file] of parts) form.append(name, file, file.name ?? `${name}.png`);
  return submit("generate", { body: form });
}

/** @returns {Promise<Job>} */
export const getJob = (id) => json(`jobs/${segment(id)}`);
export const listJobs = (values) => json(`jobs?${query(values)}`);
export const cancelJob = (id) => json(`jobs/${segment(id)}/cancel`, { method: "POST" });
export const finishJob = (id) => json(`jobs/${segment(id)}/finish`, { method: "POST" });
export const deleteJob = (id) => send(`jobs/${segment(id)}`, { method: "DELETE" });
export const jobEvents = (id, { headers, signal, previews }) =>
  send(`jobs/${segment(id)}/events${previews ? "?previews=true" : ""}`, { headers, signal });

export const listImages = (values) => json(`images?${query(values)}`);
export const getImage = (id) => json(`images/${segment(id)}.json`);
export const deleteImage = (id) => send(`images/${segment(id)}`, { method: "DELETE" });

/** The bytes at one of the server's own addresses, such as an image's `url`. */
export const fileAt = async (url) => (await send(url.replace(/^\//, ""))).blob();
