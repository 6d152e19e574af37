// The numbers of a drawing that no graph computes: noise, gates, Keys and Values.

const UINT32 = 2 ** 32;

/** `count` numbers of a normal distribution; a seed from 0 to 2³² − 1 always gives the same. */
export function noise(seed, count) {
  const uniform = uniformNumbers(seed);
  return Float32Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform())); // Box and Muller
    return radius * Math.cos(2 * Math.PI * uniform());
  });
}

/** A function that returns numbers from 0 up to but without 1 (mulberry32). */
function uniformNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / UINT32;
  };
}

/** The numbers of bytes in float16, without infinities. */
export function halves(buffer) {
  return Float32Array.from(new Uint16Array(buffer), (bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
  });
}

/**
 * Keys and Values [R, N, width] at these biases, one for each concept: see
 * perfusion_core/browser/prompts.py.
 * @param {Float32Array} parts those of closed gates, then each concept's own
 * @param {{similarities: number[], concepts: {tau: number}[]}} prompt
 * @param {number[]} shape
 * @param {number[]} betas
 */
export function keysAndValues(parts, { similarities, concepts }, [rows, tokens, width], betas) {
  const closed = rows * tokens * width;
  const packed = parts.slice(0, closed);
  for (let token = 0; token < rows * tokens; token += 1) {
    for (let j = 0; j < concepts.length; j += 1) {
      const similarity = similarities[token * concepts.length + j];
      const gate = 1 / (1 + Math.exp((betas[j] - similarity) / concepts[j].tau));
      for (let k = 0; k < width; k += 1) packed[token * width + k] += gate * parts[closed + j * width + k];
    }
  }
  return packed;
}
