// A job's progress: a bar, a line of words, a cancel button, and its problem if it fails.

import { cancelJob } from "./api.js";
import { el, say } from "./dom.js";
import { hasEnded, watchJob } from "./events.js";
import { progressLine, statusWord } from "./words.js";

/**
 * An element that follows the job until it ends. `what` names the job to screen readers;
 * `onChange(job)` is called at every change. `stop()` leaves the job alone and stops looking.
 */
export function jobProgress(job, { what, onChange = () => {} }) {
  const bar = el("progress", { "aria-label": what, max: 1 });
  const line = el("p", { class: "line" });
  const spoken = el("p", { class: "sr", role: "status" });
  const problem = el("p", { class: "error", hidden: true });
  const cancel = el("button", { type: "button", class: "quiet cancel", onclick: askToStop }, "Cancel");
  const element = el(
    "div",
    { class: "progress" },
    el("div", { class: "progress-row" }, bar, cancel),
    line,
    problem,
    spoken,
  );
  const speak = speaker(spoken, what);

  async function askToStop() {
    cancel.disabled = true;
    line.textContent = "Stopping after this step";
    try {
      await cancelJob(job.id);
    } catch (error) {
      // Too late is no problem to tell: the stream is about to say how the job ended.
      if (error.status !== 409) say(problem, error.message);
      cancel.disabled = error.status === 409;
    }
  }

  const stop = watchJob(job, (now) => {
    const { step = 0, total_steps: total } = now.progress ?? {};
    element.dataset.status = now.status;
    if (total && (step || now.status === "queued")) bar.value = step / total;
    else bar.removeAttribute("value");
    if (!cancel.disabled || hasEnded(now)) line.textContent = progressLine(now);
    if (hasEnded(now)) {
      cancel.hidden = true;
      bar.hidden = true;
      line.hidden = now.status !== "cancelled";
      say(problem, problemText(now));
    }
    speak(now);
    onChange(now);
  });
  return { element, stop };
}

/** Why a job failed, in the server's words; "" where it did not. */
export function problemText(job) {
  if (job.status !== "failed") return "";
  return job.error?.detail || job.error?.title || "The job failed, and the server did not say why.";
}

// Screen readers hear the beginning, every quarter and the end, not every step.
function speaker(spoken, what) {
  let last = null;
  return (job) => {
    const { step = 0, total_steps: total } = job.progress ?? {};
    const quarter = total ? Math.floor((4 * step) / total) : 0;
    const milestone = job.status === "running" ? `running ${quarter}` : job.status;
    if (milestone === last) return;
    last = milestone;
    const state = job.status === "running" && quarter ? `${quarter * 25} percent` : statusWord(job.status);
    spoken.textContent = `${what}: ${state}. ${problemText(job)}`;
  };
}
