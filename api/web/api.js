// The REST interface, as promises. Every refusal becomes an ApiError with the server's words.

const KEY_SLOT = "perfusion.api-key";
const RETRIES = 2;

/** Tells `needed` when the server asks for a key, and `changed` when one was entered. */
export const access = new EventTarget();

export const apiKey = () => sessionStorage.getItem(KEY_SLOT);

export function setApiKey(key) {
  sessionStorage.setItem(KEY_SLOT, key);
  access.dispatchEvent(new Event("changed"));
}

export const dropApiKey = () => sessionStorage.removeItem(KEY_SLOT);

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.status = status;
    this.errors = Array.isArray(problem.errors) ? problem.errors : [];
  }
}

/** Send a request; the answer when it is a success, else an ApiError. Paths are relative. */
export async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  const key = apiKey();
  const sent = { ...headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { detail: "The server cannot be reached. Is it still running?" });
  }
  if (answer.ok) return answer;
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

/** A POST that may be repeated safely: the same key makes the server answer the same. */
async function submit(path, options) {
  const headers = { ...options.headers, "Idempotency-Key": randomKey() };
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await json(path, { ...options, method: "POST", headers });
    } catch (error) {
      if (error.status !== 0 || attempt === RETRIES) throw error;
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
  const known = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(known).toString();
};

export const baseModel = () => json("base-model");
export const ready = () => send("readyz");

export const listConcepts = (cursor) => json(`concepts?${query({ limit: 100, cursor })}`);
export const getConcept = (ref) => json(`concepts/${segment(ref)}`);
export const createConcept = (form) => submit("concepts", { body: form });
export const trainAgain = (id) => submit(`concepts/${segment(id)}/train`, {});
export const revertConcept = (id) => submit(`concepts/${segment(id)}/revert`, {});
export const deleteConcept = (id) => send(`concepts/${segment(id)}`, { method: "DELETE" });
export const conceptFile = async (id) => (await send(`concepts/${segment(id)}/file`)).blob();
export const conceptCurve = (id) => json(`concepts/${segment(id)}/curve`);
export const curveThumbnail = async (id, k) => (await send(`concepts/${segment(id)}/curve/${k}`)).blob();
export const importConcept = (form) => json("concepts/import", { method: "POST", body: form });

export const generate = (body) =>
  submit("generate", {
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

export const getJob = (id) => json(`jobs/${segment(id)}`);
export const listJobs = (values) => json(`jobs?${query(values)}`);
export const cancelJob = (id) => json(`jobs/${segment(id)}/cancel`, { method: "POST" });
export const jobEvents = (id, headers, signal) =>
  send(`jobs/${segment(id)}/events`, { headers, signal });
export const jobPreview = async (id) => (await send(`jobs/${segment(id)}/preview`)).blob();
export const imageFile = async (id) => (await send(`images/${segment(id)}`)).blob();
export const attentionMap = async (id, k) =>
  (await send(`images/${segment(id)}/attention/${k}`)).blob();
