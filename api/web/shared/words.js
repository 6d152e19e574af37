// Numbers and states in words.

const STATUS = {
  queued: "waiting",
  training: "training",
  running: "running",
  ready: "ready",
  succeeded: "done",
  failed: "failed",
  cancelled: "cancelled",
};

const QUALITY = { good: "works well", weak: "weak", overfit: "overfit" };

/** A word that is not known means what `uncalibrated` means. */
export const qualityWord = (quality) => QUALITY[quality] ?? "no verdict";

export const statusWord = (status) => STATUS[status] ?? status;

/** What keeps a concept from being used; one of another base model is ready, but not here. */
export const stateWord = ({ status, usable }) =>
  status === "ready" && !usable ? "not usable here" : statusWord(status);

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

/** 24312 -> "24 KB" (decimal, as the file sizes of the contract). */
export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1e6) return `${Math.round(bytes / 1000)} KB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** 95 -> "1 min 35 s". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Seconds per step with two meaningful digits: 0.083 -> "0.083", 1.24 -> "1.2". */
export const perStep = (seconds) => String(Number(seconds.toPrecision(2)));

/** A moment as "just now", "5 min ago", "3 h ago", or the date. */
export function ago(moment) {
  const seconds = (Date.now() - Date.parse(moment)) / 1000;
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(moment).toLocaleDateString();
}

// The server counts no further.
const LAST_POSITION = 1000;

const PHASES = {
  loading: "reading files",
  preparing: "preparing",
  evaluating: "measuring the result",
  sampling: "drawing a preview",
  saving: "saving",
};
const USUAL_PHASES = { train: "training", generate: "sampling" };

/** Where a job stands, in one line. */
export function progressLine(job) {
  const { step = 0, total_steps: total, seconds_per_step: pace, eta_seconds: eta, phase } = job.progress ?? {};
  if (job.status === "queued") {
    const place = job.queue_position;
    if (place >= LAST_POSITION) return `Waiting, number ${LAST_POSITION} or later in the queue`;
    return place > 1 ? `Waiting, number ${place} in the queue` : "Waiting to start";
  }
  if (job.status !== "running") return statusWord(job.status);
  if (!total || !step) return "Getting ready";
  const parts = [step >= total ? "All steps done" : `Step ${step} of ${total}`];
  if (phase !== USUAL_PHASES[job.kind] && PHASES[phase]) parts.push(PHASES[phase]);
  else if (pace) parts.push(`${perStep(pace)} s per step`);
  if (eta !== null && eta !== undefined) {
    parts.push(eta < 1 ? "almost done" : `about ${duration(eta)} left`);
  }
  return parts.join(" · ");
}

/** "My Teddy!" -> "my-teddy": a name the server accepts, or "". */
export function slug(text) {
  return text
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63);
}
