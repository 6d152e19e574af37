// What the server's base model wants by default and allows: GET /base-model, read once it is there.

import { baseModel } from "./api.js";

let known = null;

/** The base model, or null while the server has none to tell. */
export async function loadBaseModel() {
  try {
    known = await baseModel();
  } catch {
    return null;
  }
  return known;
}

/** The base model's own default of one option; `kind` is "train" or "generate". */
export const defaultOf = (kind, option) => known?.defaults?.[kind]?.[option] ?? null;

/** The options that the server describes for this kind, in its order. */
export const optionsOf = (kind) => Object.keys(known?.bounds?.[kind] ?? {});

/**
 * One option's `{minimum, maximum, above, step, choices, type, description}`, read from the JSON
 * schema of its field: a nullable field keeps its bounds inside `anyOf`.
 */
export function boundsOf(kind, option) {
  const schema = known?.bounds?.[kind]?.[option] ?? {};
  const inner = schema.anyOf?.find((one) => one.type !== "null") ?? {};
  const whole = { ...schema, ...inner };
  return {
    minimum: whole.minimum ?? null,
    maximum: whole.maximum ?? null,
    above: whole.exclusiveMinimum ?? null,
    below: whole.exclusiveMaximum ?? null,
    multipleOf: whole.multipleOf ?? null,
    choices: whole.enum ?? null,
    type: whole.type ?? typeof defaultOf(kind, option),
    description: schema.description ?? whole.description ?? "",
  };
}

/** "1 to 200", "above 0, at most 1", or "" where there are no bounds. */
export function boundsInWords({ minimum, maximum, above, below }) {
  if (minimum !== null && maximum !== null) return `${minimum} to ${maximum}`;
  const parts = [];
  if (minimum !== null) parts.push(`at least ${minimum}`);
  if (above !== null) parts.push(`above ${above}`);
  if (maximum !== null) parts.push(`at most ${maximum}`);
  if (below !== null) parts.push(`below ${below}`);
  return parts.join(", ");
}

/** What is wrong with this number, in words, or null. */
export function outOfBounds(bounds, value) {
  const { minimum, maximum, above, below, multipleOf, type } = bounds;
  if (Number.isNaN(value)) return "This is not a number.";
  const outside =
    (minimum !== null && value < minimum) ||
    (maximum !== null && value > maximum) ||
    (above !== null && value <= above) ||
    (below !== null && value >= below);
  if (outside) return `It must be ${boundsInWords(bounds)}.`;
  if (type === "integer" && !Number.isInteger(value)) return "It must be a whole number.";
  if (multipleOf && value % multipleOf !== 0) return `It must be a multiple of ${multipleOf}.`;
  return null;
}

/** Give a number input its bounds; typed text stays free, so that mistakes get words. */
export function limitInput(input, bounds) {
  const least = bounds.minimum ?? bounds.above;
  const most = bounds.maximum ?? bounds.below;
  if (least !== null) input.min = least;
  if (most !== null) input.max = most;
  input.step = bounds.multipleOf ?? (bounds.type === "integer" ? 1 : "any");
}
