// How strongly a concept speaks: the bias β of its gate, in numbers and in words.

export const TAU = 0.15;
/** The dial's ends, and its step. */
export const FAINTEST = 0.9;
export const STRONGEST = 0.3;
export const STEP = 0.01;
/** What a concept takes that neither a number nor a curve says anything about. */
export const USUAL = { local: 0.7, global: 0.5 };
// Half of a step: nearer than this two biases are one position of the dial.
const SAME = STEP / 2;
// From this bias on, in words.
/** @type {Array<[number, string]>} */
const WORDS = [
  [FAINTEST + SAME, "outside the dial"],
  [0.775, "faint"],
  [0.575, "balanced"],
  [0.425, "strong"],
  [STRONGEST - SAME, "very strong"],
  [-Infinity, "outside the dial"],
];
// As many as bring a bias back, see the server's perfusion_core.strength.
const STRENGTH_DIGITS = 4;

/** The bias of a strength: 0.9 -> 0.67. */
export const betaOf = (strength) => 1 - TAU * Math.log(strength / (1 - strength));

/** The strength of a bias, as a prompt says it: 0.3 -> 0.9907. */
export const strengthOf = (beta) => Number((1 / (1 + Math.exp((beta - 1) / TAU))).toFixed(STRENGTH_DIGITS));

/** The bias of a concept for which a request says nothing, as the server sets it. */
export function defaultBeta(locking, recommendedStrength) {
  const recommended = recommendedStrength ?? null;
  if (locking === "local" && recommended !== null) return betaOf(recommended);
  return USUAL[locking] ?? USUAL.local;
}

/** Whether two biases are one position of the dial. */
export const isSame = (beta, other) => Math.abs(beta - other) < SAME;

/** "β 0.40": of a gate that is not of the usual temperature, that too. */
export function figures({ beta, tau = TAU }) {
  const bias = `β ${beta.toFixed(2)}`;
  return tau === TAU ? bias : `${bias}, τ ${Number(tau.toPrecision(3))}`;
}

/** What a bias comes to, in a word or a few. */
export const inWords = (beta) => WORDS.find(([from]) => beta >= from)?.[1] ?? "";

/** The number at a dial, as REST and prompts take it: "0.88"; a gate of another temperature by its β and τ. */
export const strengthText = ({ beta, tau = TAU }) => (tau === TAU ? String(strengthOf(beta)) : figures({ beta, tau }));

/** Where a bias lies on the dial, from 0 (faintest) to 1. */
export const shareOf = (beta) => Math.min(1, Math.max(0, (FAINTEST - beta) / (FAINTEST - STRONGEST)));
