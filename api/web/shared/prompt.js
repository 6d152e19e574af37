// The prompt's grammar, as the server reads it: `<name>` or `<name:0.9>`, all else is text.

const PLACEHOLDER = /<([a-z0-9][a-z0-9-]{0,62})(?::([^<>]*))?>/g;

/** Every mention: `{name, strength, start, end}`; strength is NaN where it is no number in (0, 1). */
export function mentions(text) {
  return [...text.matchAll(PLACEHOLDER)].map((match) => ({
    name: match[1],
    strength: match[2] === undefined ? null : strengthOf(match[2]),
    start: match.index,
    end: match.index + match[0].length,
  }));
}

function strengthOf(written) {
  const value = written.trim() === "" ? NaN : Number(written);
  return value > 0 && value < 1 ? value : NaN;
}

/** The names mentioned, once each, with the strength that the text gives them (or null). */
export function mentionedNames(text) {
  const found = new Map();
  for (const { name, strength } of mentions(text)) {
    if (!found.has(name) || found.get(name) === null) found.set(name, strength);
  }
  return found;
}

/** The text with the written strength of this concept changed; it stays bare where it was bare. */
export function withStrength(text, name, strength) {
  return text.replace(PLACEHOLDER, (whole, found, written) =>
    found === name && written !== undefined ? `<${name}:${strength}>` : whole,
  );
}

/** What is being typed at the caret: `{start, query}` behind an open `<`, or null. */
export function completionAt(text, caret) {
  const match = /<([A-Za-z0-9-]{0,63})$/.exec(text.slice(0, caret));
  return match && { start: match.index, query: match[1].toLowerCase() };
}

/** Where a completion that starts here ends: over the rest of a name and its `>`. */
export function completionEnd(text, caret) {
  return caret + (/^[a-z0-9-]*>?/i.exec(text.slice(caret))?.[0].length ?? 0);
}
