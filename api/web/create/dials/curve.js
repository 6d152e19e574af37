// A concept's operating curve: how like the photos and how true to the prompt it is at each strength.

import { conceptCurve } from "../../server/api.js";
import { figures, inWords, strengthOf } from "../../shared/gate.js";
import { useEffect, useState } from "../../shared/html.js";
import { store } from "../../shared/store.js";

// As in perfusion_core/evaluation/curve.py.
const NARROW = 0.02;
/** @type {Map<string, Promise<any>>} */
const curves = new Map();

/** The curve of a concept's present file, or null. */
export function useCurve(concept) {
  const key = `${concept.id} ${concept.sha256}`;
  const has = concept.recommended_strength !== null && concept.recommended_strength !== undefined;
  const [found, setFound] = useState({ key: "", curve: null });
  useEffect(() => {
    if (!has) return;
    if (!curves.has(key)) {
      const pending = conceptCurve(concept.id);
      pending.catch(() => curves.delete(key));
      curves.set(key, pending);
    }
    curves.get(key)?.then((curve) => setFound({ key, curve }), () => {});
  }, [key, has, store.returns.value]);
  return has && found.key === key ? found.curve : null;
}

/** How far a similarity has come, as a percentage of what can be expected, for the bars. */
export function shares(point, { superclass, ceiling, text_floor: textFloor = 0 }) {
  const floor = superclass.image_similarity;
  const room = (ceiling ?? 1) - floor;
  const looks = room > 0 ? (point.image_similarity - floor) / room : 0;
  const above = superclass.text_similarity - textFloor;
  const follows = above > NARROW ? (point.text_similarity - textFloor) / above : 1;
  return { looks: percent(looks), follows: percent(follows) };
}

const percent = (share) => Math.round(100 * Math.min(1, Math.max(0, share)));

/** A point in words, for who cannot see it. */
export function pointInWords(point, curve) {
  const { looks, follows } = shares(point, curve);
  const best = point.strength === curve.recommended_strength;
  return [
    `Strength ${strengthOf(point.beta)}, ${figures(point)}, ${inWords(point.beta)}${best ? ", recommended" : ""}`,
    `${looks} % of the way to your photos`,
    `follows the prompt ${follows} % as well as the plain kind`,
  ].join("; ");
}
