// The text chunks of a PNG: the server writes the whole request into every image.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const latin1 = new TextDecoder("latin1");
const utf8 = new TextDecoder();

/** `{keyword: text}` of the uncompressed tEXt and iTXt chunks before the pixels' end. */
export function textChunks(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  const found = {};
  if (!SIGNATURE.every((byte, n) => bytes[n] === byte)) return found;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const type = latin1.decode(bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (type === "tEXt") addText(found, data);
    if (type === "iTXt") addInternational(found, data);
    if (type === "IEND") break;
    at += 12 + length;
  }
  return found;
}

function addText(found, data) {
  const end = data.indexOf(0);
  found[latin1.decode(data.subarray(0, end))] = latin1.decode(data.subarray(end + 1));
}

function addInternational(found, data) {
  const keyword = data.indexOf(0);
  const compressed = data[keyword + 1] === 1;
  const language = data.indexOf(0, keyword + 3);
  const translated = data.indexOf(0, language + 1);
  if (compressed) return;
  found[latin1.decode(data.subarray(0, keyword))] = utf8.decode(data.subarray(translated + 1));
}

/** The request that made this image and its seed, its gates exact, from its `perfusion` chunk; or null. */
export async function requestIn(blob) {
  try {
    const { perfusion } = textChunks(await blob.arrayBuffer());
    const { request, concepts } = JSON.parse(perfusion);
    return { ...request, concepts: concepts.map(({ name, beta, tau }) => ({ name, beta, tau })) };
  } catch {
    return null;
  }
}
