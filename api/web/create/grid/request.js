// A grid: one or two things that vary, as text fields, and the sweep that they make.

const NUMBERS = /^(strength:|beta:|seed$|guidance_scale$|num_inference_steps$|denoising_strength$)/;
export const MOST_CELLS = 64;
// From faint to very strong, evenly in β.
const BETAS = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];

/** What an axis may vary, with its words; the concepts are those of the prompt. */
export const fieldsFor = (names, editing) => [
  ...names.map((name) => [`beta:${name}`, `Strength of <${name}> (β)`]),
  ["seed", "Seed"],
  ["prompt", "Prompt"],
  ["guidance_scale", "Guidance"],
  ["num_inference_steps", "Steps"],
  ["scheduler", "Scheduler"],
  ["locking", "Locking"],
  ...(editing ? [["denoising_strength", "How much changes"]] : []),
];

/** Values to begin with. */
export function usualValues(field, { seed, steps, guidance, prompt }) {
  if (field.startsWith("beta:")) return BETAS.join(", ");
  const first = Number(seed) || 1;
  return {
    seed: [0, 1, 2, 3].map((k) => first + k).join(", "),
    prompt,
    guidance_scale: [guidance / 2, guidance, guidance * 2].join(", "),
    num_inference_steps: [Math.ceil(steps / 2), steps, steps * 2].join(", "),
    scheduler: "ddim, dpmpp_2m, euler, unipc",
    locking: "local, global",
    denoising_strength: "0.4, 0.6, 0.8, 1",
  }[field];
}

/** The values of one axis; prompts stand on lines of their own, all else between commas. */
function valuesOf({ field, text }) {
  const parts = text.split(field === "prompt" ? "\n" : /[,\n]/).map((part) => part.trim());
  const written = parts.filter(Boolean);
  return NUMBERS.test(field) ? written.map(Number) : written;
}

/** `{sweep}`, or `{refusals}` by pointer. */
export function readGrid({ axes }) {
  const refusals = {};
  const read = axes.map((axis) => ({ field: axis.field, values: valuesOf(axis) }));
  read.forEach(({ values }, k) => {
    const pointer = `/sweep/axes/${k}`;
    if (values.length === 0) refusals[pointer] = "Write at least one value.";
    else if (values.some(Number.isNaN)) refusals[pointer] = "Write numbers with commas between them.";
  });
  const cells = read.reduce((product, { values }) => product * values.length, 1);
  if (cells > MOST_CELLS) refusals["/sweep/axes/0"] = `A grid has at most ${MOST_CELLS} images; these are ${cells}.`;
  if (read.length === 2 && read[0].field === read[1].field) refusals["/sweep/axes/1"] = "Vary something else here.";
  return Object.keys(refusals).length > 0 ? { refusals } : { sweep: { axes: read } };
}

/** An axis and its value, as a label. */
export function cellLabel({ field, values }, k) {
  const value = values[k];
  if (field.startsWith("beta:")) return `β ${Number(value).toFixed(2)}`;
  if (field.startsWith("strength:")) return String(value);
  const words = { seed: "Seed", guidance_scale: "Guidance", num_inference_steps: "Steps", denoising_strength: "Changes" };
  return words[field] ? `${words[field]} ${value}` : String(value);
}
