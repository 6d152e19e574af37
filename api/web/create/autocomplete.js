// Completing placeholders in the prompt: an ARIA combobox whose list opens behind a `<`.
//
// The combobox role sits on the textarea while it has the focus, as in other mention pickers:
// a prompt is one line of meaning, but it wraps, which an <input> cannot.

import { Face } from "../shared/face.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../shared/html.js";
import { completionAt, completionEnd } from "../shared/prompt.js";
import { concepts } from "../shared/store.js";
import { count, stateWord } from "../shared/words.js";

const MAX_OPTIONS = 8;
const CLOSED = { options: [], start: 0, left: 0, top: 0 };

/** The list's state and handlers; `caretAt(offset)` tells where a character is drawn. */
export function useCompletions(area, caretAt) {
  const [list, setList] = useState(/** @type {any} */ (CLOSED));
  const [active, setActive] = useState(0);
  const [status, setStatus] = useState("");
  // A key may come before the list of the last one is drawn.
  const now = useRef({ list, active });
  now.current = { list, active };

  function show(found, at) {
    setList(found);
    setActive(at);
    now.current = { list: found, active: at };
  }

  function open() {
    const { value, selectionStart, clientWidth } = area.current;
    const found = completionAt(value, selectionStart);
    const options = found ? matching(found.query) : [];
    if (!found || options.length === 0) {
      if (found && found.query) setStatus("No concept of this name.");
      return close();
    }
    // The layer behind the textarea is drawn after this.
    requestAnimationFrame(() => {
      const { left, top } = caretAt(found.start);
      show({ options, start: found.start, left: Math.max(0, Math.min(left, clientWidth - 260)), top }, 0);
    });
    return setStatus(`${count(options.length, "concept")}, use the arrow keys and Enter.`);
  }

  const close = () => show(CLOSED, 0);

  function take(n) {
    const { options, start } = now.current.list;
    const { value, selectionStart } = area.current;
    const text = options[n].placeholder;
    replaceText(area.current, { start, end: completionEnd(value, selectionStart), text });
    setStatus(`${text} inserted.`);
    close();
    requestAnimationFrame(close); // typing the text has asked for the list again
  }

  /** Whether the key was for the list. */
  function onKey(event) {
    const { list: shown, active: at } = now.current;
    if (event.isComposing || shown.options.length === 0) return false;
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) show(shown, (at + move + shown.options.length) % shown.options.length);
    else if (event.key === "Enter") take(at);
    else if (event.key === "Escape") close();
    else return false;
    event.preventDefault();
    return true;
  }

  const expanded = list.options.length > 0;
  const attributes = {
    role: "combobox",
    "aria-autocomplete": "list",
    "aria-haspopup": "listbox",
    "aria-controls": "completions",
    "aria-expanded": String(expanded),
    "aria-activedescendant": expanded ? `completion-${active}` : undefined,
  };
  return { list, active, status, attributes, open, close, take, onKey };
}

/** The list itself. */
export function Completions({ list, active, status, take }) {
  const place = useRef(null);
  useLayoutEffect(() => {
    place.current.style.left = `${list.left}px`;
    place.current.style.top = `${list.top}px`;
  }, [list]);
  useEffect(() => {
    place.current.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }, [list, active]);
  // The textarea must keep its focus, so the press is taken before it moves.
  const press = (event, n) => {
    event.preventDefault();
    take(n);
  };
  return html`
    <ul class="completions" id="completions" role="listbox" aria-label="Concepts" ref=${place} hidden=${list.options.length === 0}>
      ${list.options.map(
        (concept, n) => html`
          <li key=${concept.id} role="option" id="completion-${n}" aria-selected=${String(n === active)} onMouseDown=${(event) => press(event, n)}>
            <${Face} concept=${concept} size="tiny" />
            <code>${concept.placeholder}</code>
            <span class="hint">${describe(concept)}</span>
          </li>
        `,
      )}
    </ul>
    <p class="sr" role="status">${status}</p>
  `;
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
  const rank = ({ name, superclass, usable }) => {
    const far = usable ? 0 : 3; // what can be used now comes first
    if (name.startsWith(query)) return far;
    if (name.includes(query)) return far + 1;
    return superclass.includes(query) ? far + 2 : Infinity;
  };
  return concepts()
    .filter((concept) => ["ready", "training"].includes(concept.status) && rank(concept) < Infinity)
    .sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name))
    .slice(0, MAX_OPTIONS);
}

const describe = (concept) =>
  concept.usable ? concept.superclass : `${concept.superclass} · ${stateWord(concept)}`;
