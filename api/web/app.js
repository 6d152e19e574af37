// The page's beginning: wire the parts, then fill them as the server becomes ready.

import { askForKeys } from "./access.js";
import { loadBaseModel } from "./base-model.js";
import { refreshConcepts } from "./concept-list.js";
import { startConcepts } from "./concepts.js";
import { startCreate } from "./create.js";
import { byId, say } from "./dom.js";
import { hasEnded } from "./events.js";
import { refreshHistory, startHistory } from "./history.js";
import { startNavigation } from "./navigation.js";
import { watchReadiness } from "./readiness.js";
import { applyBaseModel } from "./settings.js";
import { showJob, shownJob, startStage } from "./stage.js";
import { resumeTrainings, startTeach } from "./teach.js";
import { drawTrainingOptions } from "./training-options.js";
import { startViewer } from "./viewer.js";

startNavigation();
startTeach();
startConcepts();
startCreate();
startStage();
startHistory();
startViewer();
askForKeys(fill);
watchReadiness(showBaseModel);
fill();
// Concepts may come from elsewhere while the tab is away: a command line, another person.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refreshConcepts().catch(() => {});
});

/** Everything that the server knows; again after a key was entered. */
async function fill() {
  try {
    await refreshConcepts();
    await resumeTrainings();
    const jobs = await refreshHistory();
    const worthSeeing = jobs.find((job) => !hasEnded(job) || job.images.length > 0);
    if (worthSeeing && !shownJob()) showJob(worthSeeing);
    await showBaseModel();
  } catch (error) {
    // A missing key and a server that is away are told by the key panel and the banner.
    if (error.status !== 401 && error.status !== 0) say(byId("concepts-alert"), error.message);
  }
}

async function showBaseModel() {
  const base = await loadBaseModel();
  if (!base) return;
  const { width, height } = base.resolution ?? {};
  say(byId("model"), width ? `${base.name} · ${width} × ${height}` : base.name);
  drawTrainingOptions();
  applyBaseModel(base.resolution);
}
