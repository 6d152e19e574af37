// The prompt's textarea and the layer behind it that colours placeholders as they are typed.

import { setPrompt } from "../shared/draft.js";
import { controlOf } from "../shared/fields.js";
import { html, useLayoutEffect, useRef } from "../shared/html.js";
import { mentions } from "../shared/prompt.js";
import { findConcept, store } from "../shared/store.js";
import { Completions, useCompletions } from "./autocomplete.js";

/** The box; `submit` runs on Enter. */
export function PromptBox({ submit }) {
  const area = useRef(null);
  const ink = useRef(null);
  const box = useRef(null);
  const text = store.draft.value.prompt;
  const completions = useCompletions(area, (offset) => caretAt(ink.current, box.current, offset));

  useLayoutEffect(() => {
    const textarea = area.current;
    textarea.style.height = "auto";
    textarea.style.height = `${textarea.scrollHeight + 2}px`;
  }, [text]);

  function onKeyDown(event) {
    if (completions.onKey(event)) return;
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  }

  function onInput(event) {
    setPrompt(event.target.value);
    completions.open();
  }

  const move = (event) => {
    if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) completions.open();
  };
  const scroll = () => {
    ink.current.scrollTop = area.current.scrollTop;
  };
  const own = controlOf("prompt", "/prompt");
  return html`
    <div class="prompt" ref=${box}>
      <div class="prompt-ink" ref=${ink} aria-hidden="true">${inked(text)}</div>
      <textarea ref=${area} rows="2" maxlength="2000" spellcheck="false" ...${own} ...${completions.attributes}
        placeholder="a photo of <teddy> surfing with <rex>" value=${text} onInput=${onInput} onKeyDown=${onKeyDown}
        onKeyUp=${move} onClick=${completions.open} onBlur=${completions.close} onScroll=${scroll}></textarea>
      <${Completions} ...${completions} />
    </div>
    <p class="error" id="prompt-error" hidden=${!store.refusals.value["/prompt"]}>${store.refusals.value["/prompt"]}</p>
  `;
}

function inked(text) {
  const parts = [];
  let position = 0;
  for (const { name, strength, start, end } of mentions(text)) {
    const usable = findConcept(name)?.usable && !Number.isNaN(strength);
    parts.push(text.slice(position, start), html`<mark class=${usable ? "" : "unknown"}>${text.slice(start, end)}</mark>`);
    position = end;
  }
  // The last line needs a character, or an empty one at the end would not be drawn.
  return [...parts, text.slice(position), "\u200b"];
}

/** Where a character of the prompt is drawn, from the box's corner: the line below it. */
function caretAt(ink, box, offset) {
  const walker = document.createTreeWalker(ink, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let left = offset;
  for (let node = /** @type {?Text} */ (walker.nextNode()); node; node = /** @type {?Text} */ (walker.nextNode())) {
    if (left < node.length) {
      range.setStart(node, left);
      range.setEnd(node, left + 1);
      break;
    }
    left -= node.length;
  }
  const at = range.getBoundingClientRect();
  const corner = box.getBoundingClientRect();
  return { left: at.left - corner.left, top: at.bottom - corner.top + 4 };
}
