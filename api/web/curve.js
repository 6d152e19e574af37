// A concept's operating curve: an image at each point, and the recommended point.

import { conceptCurve, curveThumbnail } from "./api.js";
import { el } from "./dom.js";
import { figures, inWords, isSame } from "./gate.js";

const curves = new Map();

/**
 * `{element, show(beta)}`: a strip of buttons that call `pick(beta)`. Hidden where the concept has
 * no curve, and until it is there. Points of an earlier release may lie beyond the dial.
 */
export function curveStrip(concept, pick) {
  const buttons = [];
  let current = null;
  const element = el("div", {
    class: "curve",
    role: "group",
    "aria-label": `Images of ${concept.placeholder} by strength`,
    hidden: true,
  });
  const show = (beta) => {
    current = beta;
    for (const { button, point } of buttons) {
      button.setAttribute("aria-pressed", String(isSame(point.beta, beta)));
    }
  };
  if (concept.recommended_strength !== null && concept.recommended_strength !== undefined) draw();
  return { element, show };

  async function draw() {
    const curve = await curveOf(concept).catch(() => null);
    if (!curve) return;
    for (const [k, point] of curve.points.entries()) {
      const best = point.strength === curve.recommended_strength;
      const button = pointButton(point, { best, curve, onclick: () => pick(point.beta) });
      buttons.push({ button, point });
      fill(button, concept, k);
    }
    element.style.setProperty("--columns", String(columnsOf(curve.points.length)));
    element.setAttribute("aria-label", `Images of ${concept.placeholder} at ${curve.points.length} strengths`);
    element.append(
      ...buttons.map(({ button }) => button),
      el(
        "p",
        { class: "curve-key", "aria-hidden": "true" },
        el("span", { class: "looks" }, "like your photos"),
        el("span", { class: "follows" }, "follows the prompt"),
      ),
    );
    element.hidden = false;
    if (current !== null) show(current);
  }
}

/** How far a similarity has come, as a percentage of what can be expected, for the bars. */
export function shares(point, { superclass, ceiling }) {
  const floor = superclass.image_similarity;
  const room = (ceiling ?? 1) - floor;
  const looks = room > 0 ? (point.image_similarity - floor) / room : 0;
  const follows = superclass.text_similarity > 0 ? point.text_similarity / superclass.text_similarity : 1;
  return { looks: percent(looks), follows: percent(follows) };
}

// Two even rows where one would make the images too small.
const columnsOf = (count) => (count > 5 ? Math.ceil(count / 2) : count);

const percent = (share) => Math.round(100 * Math.min(1, Math.max(0, share)));

function pointButton(point, { best, curve, onclick }) {
  const { looks, follows } = shares(point, curve);
  const words = [
    `${figures(point)}, ${inWords(point.beta)}${best ? ", recommended" : ""}`,
    `${looks} % of the way to your photos`,
    `follows the prompt ${follows} % as well as the plain kind`,
  ];
  return el(
    "button",
    {
      type: "button",
      class: "curve-point",
      "aria-label": `${words.join("; ")}.`,
      "aria-pressed": "false",
      title: words.join("; "),
      dataset: best ? { best: "yes" } : {},
      onclick,
    },
    el("span", { class: "curve-image" }),
    el("span", { class: "curve-strength" }, point.beta.toFixed(2)),
    bar("looks", looks),
    bar("follows", follows),
    best ? el("span", { class: "curve-best" }, "best") : null,
  );
}

function bar(kind, share) {
  const filled = el("span", { class: kind });
  filled.style.width = `${share}%`;
  return el("span", { class: "curve-bar", "aria-hidden": "true" }, filled);
}

async function fill(button, { id, sha256 }, k) {
  const url = await thumbnailOf(id, sha256, k).catch(() => null);
  if (url) button.querySelector(".curve-image").append(el("img", { src: url, alt: "" }));
}

// Both are of the concept's file, which changes only with its hash.
const curveOf = ({ id, sha256 }) => remembered(`${id} ${sha256}`, () => conceptCurve(id));
const thumbnailOf = (id, sha256, k) =>
  remembered(`${id} ${sha256} ${k}`, async () => URL.createObjectURL(await curveThumbnail(id, k)));

function remembered(key, fetch) {
  if (!curves.has(key)) {
    const pending = fetch();
    pending.catch(() => curves.delete(key));
    curves.set(key, pending);
  }
  return curves.get(key);
}
