// Arrays from the text that `packing.py` made of them.

// Bytes of text in base64 and zlib's format.
export async function unpackBytes(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

// float32 values, whose first bytes come first, then all second ones, and so on.
export async function unpackFloats(text) {
  const planes = await unpackBytes(text), n = planes.length / 4;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < 4; plane++) for (let i = 0; i < n; i++) bytes[4 * i + plane] = planes[plane * n + i];
  return new Float32Array(bytes.buffer);
}
