// A concept: its own photos, what was generated with it, what the server thinks of it, and its actions.

import { getJob, listImages } from "../server/api.js";
import { isInTraining } from "../server/concepts.js";
import { shares, useCurve } from "../create/dials/curve.js";
import { insertConcept } from "../shared/draft.js";
import { usePhotos, hueOf } from "../shared/face.js";
import { html, useEffect, useState } from "../shared/html.js";
import { problemText } from "../shared/job-progress.js";
import { LazyPicture } from "../shared/pictures.js";
import { store } from "../shared/store.js";
import { count, fileSize, qualityWord, stateWord } from "../shared/words.js";
import { download, goBack, remove, rename, teachAgain } from "./actions.js";
import { openAgain } from "./again-dialog.js";

const MASKS = {
  upload: "your own masks",
  alpha: "masks from transparency",
  segmenter: "masks found by itself",
  uniform: "not every photo has a mask",
};
const FORMATS = { perfusion: "Concept file", lora: "LoRA", embedding: "Embedding", zip: "All, with a card" };

export function Card({ concept }) {
  const { id, name, placeholder, superclass, status, usable, bytes, warning, verdict } = concept;
  const again = status === "ready" && isInTraining(id);
  const facts = [superclass, bytes ? fileSize(bytes) : null].filter(Boolean).join(" · ");
  return html`
    <li class="concept" data-name=${name}>
      <${Looks} concept=${concept} />
      <div class="concept-body">
        <h3><code>${placeholder}</code></h3>
        <p class="hint">${facts}</p>
        <p class="pills">
          ${!usable && html`<span class="pill" data-status=${status}>${stateWord(concept)}</span>`}
          ${again && html`<span class="pill" data-status="training">training again</span>`}
        </p>
        ${verdict && html`<${Verdict} placeholder=${placeholder} verdict=${verdict} />`}
        ${usable && html`<${CurveGlance} concept=${concept} />`}
        ${warning && html`<p class="hint">${warning}</p>`}
        ${MASKS[concept.mask_source] && html`<p class="hint">${MASKS[concept.mask_source]}</p>`}
        <${Reason} concept=${concept} />
        <${CardActions} concept=${concept} again=${again} />
      </div>
    </li>
  `;
}

/** The photos, and what was made of them. */
function Looks({ concept }) {
  const photos = usePhotos(concept);
  const [images, setImages] = useState(/** @type {any[]} */ ([]));
  useEffect(() => {
    let wanted = true;
    if (concept.status === "ready") {
      listImages({ concept: concept.id, limit: 3 }).then(({ items }) => wanted && setImages(items), () => {});
    }
    return () => {
      wanted = false;
    };
  }, [concept.id, concept.sha256, store.returns.value]);
  const label = `${concept.placeholder}: ${count(photos.length, "photo")}, ${count(images.length, "image")} of it`;
  return html`
    <div class="looks-row" role="img" aria-label=${label} style=${{ "--hue": hueOf(concept.name) }}>
      <div class="looks-photos" data-count=${Math.min(4, photos.length)}>
        ${photos.length === 0 && html`<span class="letter" data-letter=${concept.name[0]}></span>`}
        ${photos.slice(0, 4).map((photo) => html`<${LazyPicture} key=${photo.url} address=${photo.url} />`)}
      </div>
      ${images.length > 0 && html`<div class="looks-images">${images.map((image) => html`<${LazyPicture} key=${image.id} address=${image.thumbnail_url} />`)}</div>`}
    </div>
  `;
}

/** What the server thinks of the concept; good news may be folded, advice may not. */
function Verdict({ placeholder, verdict: { quality, reasons } }) {
  return html`
    <details class="verdict" open=${quality !== "good"} data-quality=${quality}>
      <summary><span class="sr">Verdict of ${placeholder}: </span><span class="pill">${qualityWord(quality)}</span></summary>
      ${reasons.map((reason) => html`<p class="hint" key=${reason}>${reason}</p>`)}
    </details>
  `;
}

/** The curve at a glance: how like the photos, and how true to the prompt, from faint to strong. */
function CurveGlance({ concept }) {
  const curve = useCurve(concept);
  if (!curve) return null;
  return html`
    <div class="curve-glance" role="img" aria-label="${concept.placeholder} from faint to strong: ${curve.points.map((point) => `${shares(point, curve).looks} %`).join(", ")} of the way to your photos">
      ${curve.points.map((point, k) => {
        const { looks, follows } = shares(point, curve);
        const best = point.strength === curve.recommended_strength;
        return html`<span key=${k} class="glance" data-best=${best ? "yes" : undefined} style=${{ "--looks": `${looks}%`, "--follows": `${follows}%` }}></span>`;
      })}
    </div>
  `;
}

/** Why it failed, or cannot be used here. */
function Reason({ concept }) {
  const { job_id: jobId, status, usable, reason } = concept;
  const [why, setWhy] = useState("");
  useEffect(() => {
    if (status !== "failed" || !jobId) return;
    getJob(jobId).then((job) => setWhy(problemText(job)), () => {});
  }, [jobId, status, store.returns.value]);
  const text = status === "failed" ? why : status === "ready" && !usable ? reason : "";
  return html`<p class="error" hidden=${!text}>${text}</p>`;
}

function CardActions({ concept, again }) {
  const { name, placeholder, status, usable, verdict, job_id: jobId, has_file_before: before } = concept;
  const button = (text, label, act, style = "") =>
    html`<button type="button" class="small ${style}" aria-label=${label} onClick=${act}>${text}</button>`;
  // Teaching again stands out where a concept is weak, overfit or not usable; an imported one has no photos.
  const poor = !usable || ["weak", "overfit"].includes(verdict?.quality ?? "");
  const free = !again && status !== "training";
  return html`
    <div class="card-actions">
      ${usable && button("Use", `Use ${placeholder} in a prompt`, () => insertConcept(name), poor ? "" : "primary")}
      ${free && jobId && button("Teach again", `Teach again ${placeholder}`, () => teachAgain(concept), poor ? "primary" : "")}
      ${free && before && button("Go back", `Go back to the ${placeholder} before`, () => goBack(concept))}
      ${status === "ready" && button("Download", `Download the file of ${placeholder}`, () => download(concept, "perfusion"))}
      <details class="more">
        <summary aria-label="More about ${placeholder}">More</summary>
        <div class="card-actions">
          ${free && jobId && button("Teach again with other options", `Teach again with other options, ${placeholder}`, () => openAgain(concept))}
          ${button("Rename", `Rename ${placeholder}`, () => rename(concept))}
          ${status === "ready" && html`<span class="hint wide">Download as</span>`}
          ${status === "ready" && Object.entries(FORMATS).slice(1).map(([format, words]) => button(words, `${words}: download of ${placeholder}`, () => download(concept, format)))}
        </div>
      </details>
      ${button("Delete", `Delete ${placeholder}`, () => remove(concept), "quiet")}
    </div>
  `;
}
