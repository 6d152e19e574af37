// Building elements from data without markup strings: text stays text.

/** The element with this id; the page is static, so a missing one is a mistake. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no element #${id}.`);
  return found;
}

/**
 * A new element. `properties`: `class`, `on<event>` listeners, `dataset`, booleans as attributes,
 * and any other attribute. Children are nodes or strings; null ones are left out.
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name !== "value") element.setAttribute(name, value === true ? "" : String(value));
  }
  // Last, because a range clamps its value to bounds that must be there first.
  if ("value" in properties) element.value = properties.value;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show the text in the element, or hide the element when there is none. */
export function say(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** Scroll to an element, gently where the reader allows motion. */
export function reveal(element, block = "start") {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: still ? "auto" : "smooth", block });
}
