// A job's progress: a bar, a line of words, a cancel button, and its problem if it fails.

import { cancelJob } from "../server/api.js";
import { hasEnded } from "../server/events.js";
import { html, useState } from "./html.js";
import { progressLine, statusWord } from "./words.js";

/** @typedef {import("../server/types.js").Job} Job */

/** Why a job failed, in the server's words; "" where it did not. */
export function problemText(job) {
  if (job.status !== "failed") return "";
  return job.error?.detail || job.error?.title || "The job failed, and the server did not say why.";
}

/** Follows a job to its end; `what` names it to screen readers. @param {{job: Job, what: string, children?: any}} properties */
export function JobProgress({ job, what, children = null }) {
  const [stopping, setStopping] = useState(false);
  const [refusal, setRefusal] = useState("");
  const over = hasEnded(job);
  const { step = 0, total_steps: total = 0 } = job.progress ?? {};
  const share = total && (step || job.status === "queued") ? step / total : undefined;

  async function askToStop() {
    if (stopping) return;
    setStopping(true);
    try {
      await cancelJob(job.id);
    } catch (error) {
      // Too late is no problem to tell: the stream is about to say how the job ended.
      if (error.status !== 409) {
        setRefusal(error.message);
        setStopping(false);
      }
    }
  }

  const problem = problemText(job) || refusal;
  return html`
    <div class="progress" data-status=${job.status}>
      ${!over &&
      html`<div class="progress-row" role="group" aria-label=${what}>
        <progress aria-label=${what} max="1" value=${share}></progress>
        ${children}
        <button type="button" class="quiet small cancel" aria-disabled=${stopping ? "true" : undefined} onClick=${askToStop}>Cancel</button>
      </div>`}
      ${(!over || job.status === "cancelled") &&
      html`<p class="line">${stopping && !over ? "Stopping after this step" : progressLine(job)}</p>`}
      <p class="error" hidden=${!problem}>${problem}</p>
      <p class="sr" role="status">${spokenLine(job, what)}</p>
    </div>
  `;
}

// Screen readers hear the beginning, every quarter and the end, not every step.
function spokenLine(job, what) {
  const { step = 0, total_steps: total = 0 } = job.progress ?? {};
  const quarter = total ? Math.floor((4 * step) / total) : 0;
  const state = job.status === "running" && quarter ? `${quarter * 25} percent` : statusWord(job.status);
  return `${what}: ${state}. ${problemText(job)}`;
}

/** What a job warns of, in the server's words. */
export function Warnings({ job }) {
  const warnings = job.warnings ?? [];
  return html`<ul class="warnings" aria-live="polite" aria-label="Warnings">
    ${warnings.map(({ type, detail }) => html`<li key=${type + detail}>${detail}</li>`)}
  </ul>`;
}
