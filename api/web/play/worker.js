// Loads everything once, then draws without the server: the graphs run in WASM on this one thread.

import { halves, keysAndValues, noise } from "./drawing.js";

const RUNTIME = "../runtime.mjs";
// Weights become float32 once, while the graph is read, and not at each step.
const OPTIONS = { executionProviders: ["wasm"], extra: { session: { disable_quant_qdq: "1" } } };
const answer = (message) => globalThis.postMessage(message);

/** What was loaded: the runtime, both graphs, and the parts of each prompt's Keys and Values. @type {any} */
let loaded;

const tasks = { load, draw };
globalThis.addEventListener("message", async ({ data }) => {
  try {
    await tasks[data.task](data);
  } catch (error) {
    answer({ told: "failed", reason: String(error?.message ?? error) });
  }
});

async function load({ drawing }) {
  const names = ["runtime.bin", "step.onnx", "decoder.onnx", ...drawing.prompts.map(({ file }) => file)];
  let bytes = 0;
  const count = (more) => answer({ told: "loading", bytes: (bytes += more) });
  const [wasm, step, decoder, ...prompts] = await Promise.all(names.map((name) => fetched(name, count)));
  const ort = await import(RUNTIME);
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await unpacked(wasm) });
  const sessions = await Promise.all([step, decoder].map((graph) => ort.InferenceSession.create(graph, OPTIONS)));
  loaded = { ort, drawing, sessions, parts: prompts.map((each) => halves(each.buffer)) };
  answer({ told: "loaded" });
}

async function draw({ prompt, betas, seed }) {
  const { ort, drawing, sessions, parts } = loaded;
  const [step, decoder] = sessions;
  const tensor = (numbers, shape) => new ort.Tensor("float32", numbers, shape);
  const described = drawing.prompts[prompt];
  const packed = tensor(keysAndValues(parts[prompt], described, drawing.packed, betas), drawing.packed);
  let latents = tensor(noise(seed, drawing.latents.reduce((all, each) => all * each)), drawing.latents);
  for (const [number, numbers] of drawing.steps.entries()) {
    answer({ told: "step", number });
    latents = (await step.run({ latents, packed, step: tensor(Float32Array.from(numbers), [3]) })).next;
  }
  const { pixels } = await decoder.run({ latents });
  if (pixels.data.some(Number.isNaN)) throw new Error("the concept is too strong, so move its dial to the left.");
  answer({ told: "drawn", pixels: coloured(pixels.data) });
}

/** Grey levels of three channels as the four that a canvas takes. */
function coloured(levels) {
  const pixels = new Uint8ClampedArray((levels.length / 3) * 4).fill(255);
  for (let k = 0; k < levels.length; k += 1) pixels[Math.floor(k / 3) * 4 + (k % 3)] = levels[k];
  return pixels;
}

async function fetched(name, count) {
  const response = await fetch(`../${name}`).catch(() => {
    throw new Error("the server cannot be reached.");
  });
  if (!response.ok || !response.body) throw new Error(`the server has no file ${name}.`);
  /** @type {any[]} */
  const chunks = [];
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    chunks.push(part.value);
    count(part.value.length);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
