// What the server's base model wants by default and allows: GET /models, read once it is there.

import { baseModel } from "./api.js";
import { store } from "../shared/store.js";

/** Read the base model; null while the server has none to tell. */
export async function loadBaseModel() {
  try {
    store.base.value = await baseModel();
  } catch {
    return null;
  }
  return store.base.value;
}

/** The base model's own default of one option; `kind` is "train" or "generate". */
export const defaultOf = (kind, option) => store.base.value?.defaults?.[kind]?.[option] ?? null;

/** The options that the server describes for this kind, in its order. */
export const optionsOf = (kind) => Object.keys(store.base.value?.bounds?.[kind] ?? {});

/**
 * One option's `{minimum, maximum, above, step, choices, type, description}`, read from the JSON
 * schema of its field: a nullable field keeps its bounds inside `anyOf`.
 */
export function boundsOf(kind, option) {
  const schema = store.base.value?.bounds?.[kind]?.[option] ?? {};
  const inner = schema.anyOf?.find((part) => part.type !== "null") ?? {};
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

/** The attributes of a number input with these bounds; typed text stays free, so that mistakes get words. */
export function inputBounds(bounds) {
  return {
    min: bounds.minimum ?? bounds.above ?? undefined,
    max: bounds.maximum ?? bounds.below ?? undefined,
    step: bounds.multipleOf ?? (bounds.type === "integer" ? 1 : "any"),
    inputmode: bounds.type === "integer" ? "numeric" : "decimal",
  };
}
