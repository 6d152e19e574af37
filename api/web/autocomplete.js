// Completing placeholders in the prompt: an ARIA combobox whose list opens behind a `<`.
//
// The combobox role sits on the textarea while it has the focus, as in other mention pickers:
// a prompt is one line of meaning, but it wraps, which an <input> cannot.

import { allConcepts, conceptList } from "./concept-list.js";
import { face } from "./face.js";
import { byId, el } from "./dom.js";
import { completionAt, completionEnd } from "./prompt.js";
import { count, stateWord } from "./words.js";

const MAX_OPTIONS = 8;

/** Wire the list to the textarea; `caretAt(offset)` tells where a character is drawn. */
export function startAutocomplete(textarea, caretAt) {
  const list = byId("completions");
  const status = byId("completions-status");
  let found = null;
  let options = [];
  let active = 0;

  textarea.setAttribute("role", "combobox");
  textarea.setAttribute("aria-autocomplete", "list");
  textarea.setAttribute("aria-haspopup", "listbox");
  textarea.setAttribute("aria-controls", list.id);
  textarea.setAttribute("aria-expanded", "false");

  textarea.addEventListener("input", open);
  textarea.addEventListener("click", open);
  textarea.addEventListener("keyup", (event) => {
    if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) open();
  });
  textarea.addEventListener("blur", close);
  textarea.addEventListener("keydown", onKey);
  conceptList.addEventListener("changed", () => options.length > 0 && open());

  function open() {
    found = completionAt(textarea.value, textarea.selectionStart);
    const concepts = found ? matching(found.query) : [];
    if (concepts.length === 0) {
      if (found && found.query) status.textContent = "No concept of this name.";
      return close();
    }
    active = 0;
    options = concepts.map((concept, n) => option(concept, n));
    list.replaceChildren(...options.map(({ item }) => item));
    list.hidden = false;
    const { left, top } = caretAt(found.start);
    list.style.left = `${Math.max(0, Math.min(left, textarea.clientWidth - list.offsetWidth))}px`;
    list.style.top = `${top}px`;
    textarea.setAttribute("aria-expanded", "true");
    status.textContent = `${count(options.length, "concept")}, use the arrow keys and Enter.`;
    return mark();
  }

  function option(concept, n) {
    const item = el(
      "li",
      { role: "option", id: `completion-${n}`, "aria-selected": "false" },
      face(concept, "tiny"),
      el("code", {}, concept.placeholder),
      el("span", { class: "hint" }, describe(concept)),
    );
    // The textarea must keep its focus, so the press is taken before it moves.
    item.addEventListener("mousedown", (event) => {
      event.preventDefault();
      active = n;
      take();
    });
    return { item, concept };
  }

  function mark() {
    options.forEach(({ item }, n) => item.setAttribute("aria-selected", String(n === active)));
    textarea.setAttribute("aria-activedescendant", options[active].item.id);
    options[active].item.scrollIntoView({ block: "nearest" });
  }

  function close() {
    options = [];
    list.hidden = true;
    list.replaceChildren();
    textarea.setAttribute("aria-expanded", "false");
    textarea.removeAttribute("aria-activedescendant");
  }

  function take() {
    const { concept } = options[active];
    const end = completionEnd(textarea.value, textarea.selectionStart);
    replaceText(textarea, { start: found.start, end, text: concept.placeholder });
    status.textContent = `${concept.placeholder} inserted.`;
    close();
  }

  function onKey(event) {
    if (event.isComposing || options.length === 0) return;
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) active = (active + move + options.length) % options.length;
    else if (event.key === "Enter") take();
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (move) mark();
  }
}

/** Replace part of the text as if typed, so that undo brings it back. */
export function replaceText(textarea, { start, end, text }) {
  textarea.focus();
  textarea.setSelectionRange(start, end);
  // execCommand is the only way that keeps the undo history; where it is gone, undo is lost.
  if (!document.execCommand?.("insertText", false, text)) {
    textarea.setRangeText(text, start, end, "end");
    textarea.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

function matching(query) {
  const rank = ({ name, superclass }) => {
    if (name.startsWith(query)) return 0;
    if (name.includes(query)) return 1;
    return superclass.includes(query) ? 2 : 3;
  };
  return allConcepts()
    .filter((concept) => ["ready", "training"].includes(concept.status) && rank(concept) < 3)
    .sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name))
    .slice(0, MAX_OPTIONS);
}

const describe = (concept) =>
  concept.usable ? concept.superclass : `${concept.superclass} · ${stateWord(concept)}`;
