// What a saved image says about its making, as in every file of the server.

const KEYWORD = "XML:com.adobe.xmp";
const AFTER_HEADER = 8 + 25; // a PNG file's signature, and its first chunk

/** The PNG file with XMP in a chunk of its own. @param {Blob} png @param {string} xmp */
export async function withXmp(png, xmp) {
  const bytes = new Uint8Array(await png.arrayBuffer());
  // After the keyword: not compressed, no language, no translated keyword.
  const typed = new TextEncoder().encode(`iTXt${KEYWORD}\0\0\0\0\0${xmp}`);
  const parts = [bytes.slice(0, AFTER_HEADER), bigEndian(typed.length - 4), typed, bigEndian(checksum(typed))];
  return new Blob([...parts, bytes.slice(AFTER_HEADER)], { type: "image/png" });
}

function bigEndian(number) {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

/** The CRC-32 of a PNG chunk's type and data. */
function checksum(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
