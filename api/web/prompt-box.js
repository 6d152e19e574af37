// The prompt's textarea and the layer behind it that colours placeholders as they are typed.

import { replaceText, startAutocomplete } from "./autocomplete.js";
import { conceptList, findConcept } from "./concept-list.js";
import { byId, el } from "./dom.js";
import { mentions } from "./prompt.js";

const textarea = byId("prompt");
const ink = byId("prompt-ink");

/** Wire the box; `submit` runs on Enter. */
export function startPromptBox(submit) {
  startAutocomplete(textarea, caretAt);
  textarea.addEventListener("input", draw);
  textarea.addEventListener("scroll", () => {
    ink.scrollTop = textarea.scrollTop;
  });
  textarea.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  conceptList.addEventListener("changed", draw);
  draw();
}

export const promptText = () => textarea.value;

/** Put another text in the box, as when typed. */
export function setPrompt(text) {
  textarea.value = text;
  textarea.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Add a placeholder at the end of the prompt, or begin a prompt with it. */
export function addToPrompt(placeholder) {
  const text = textarea.value;
  if (!text.trim()) {
    replaceText(textarea, { start: 0, end: text.length, text: `a photo of ${placeholder} ` });
    return;
  }
  const space = /\s$/.test(text) ? "" : " ";
  replaceText(textarea, { start: text.length, end: text.length, text: `${space}${placeholder} ` });
}

function draw() {
  const text = textarea.value;
  const parts = [];
  let position = 0;
  for (const { name, strength, start, end } of mentions(text)) {
    const usable = findConcept(name)?.usable && !Number.isNaN(strength);
    parts.push(text.slice(position, start));
    parts.push(el("mark", { class: usable ? "" : "unknown" }, text.slice(start, end)));
    position = end;
  }
  // The last line needs a character, or an empty one at the end would not be drawn.
  ink.replaceChildren(...parts, text.slice(position), "\u200b");
  textarea.style.height = "auto";
  textarea.style.height = `${textarea.scrollHeight + 2}px`;
}

/** Where a character of the prompt is drawn, from the box's corner: the line below it. */
function caretAt(offset) {
  const walker = document.createTreeWalker(ink, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let left = offset;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (left < node.length) {
      range.setStart(node, left);
      range.setEnd(node, left + 1);
      break;
    }
    left -= node.length;
  }
  const at = range.getBoundingClientRect();
  const box = byId("prompt-box").getBoundingClientRect();
  return { left: at.left - box.left, top: at.bottom - box.top + 4 };
}
