// A question before something is lost, or done with a warning.

import { html, useLayoutEffect, useRef } from "./html.js";
import { store } from "./store.js";

/**
 * What the person answers: true for yes, false for Esc and the button `no`; where the question has
 * a `field`, its text instead of true.
 * @param {{title: string, text: string, yes: string, no?: string, danger?: boolean,
 *   field?: {label: string, value: string}}} question
 * @returns {Promise<any>}
 */
export function confirmed(question) {
  store.question.value?.answer(false);
  return new Promise((answer) => {
    store.question.value = { no: "Keep", danger: !question.field, ...question, answer };
  });
}

/** The dialog of the question that is open. */
export function Question() {
  const dialog = useRef(null);
  const field = useRef(null);
  const question = store.question.value;
  // Before the next key arrives.
  useLayoutEffect(() => {
    if (!question) return;
    dialog.current.returnValue = "no";
    dialog.current.showModal();
  }, [question]);
  if (!question) return null;
  const close = () => {
    // The dialog of a question before tells late that it was closed.
    if (dialog.current.open) return;
    const yes = dialog.current.returnValue === "yes";
    store.question.value = null;
    question.answer(yes && question.field ? field.current.value : yes);
  };
  return html`
    <dialog id="confirm" ref=${dialog} aria-labelledby="confirm-title" aria-describedby="confirm-text" onClose=${close}>
      <form method="dialog">
        <h2 id="confirm-title">${question.title}</h2>
        <p id="confirm-text">${question.text}</p>
        ${question.field &&
        html`<div class="field">
          <label for="confirm-field">${question.field.label}</label>
          <input id="confirm-field" ref=${field} defaultValue=${question.field.value} autocomplete="off" />
        </div>`}
        <div class="row end">
          <button type="button" autofocus=${!question.field} onClick=${() => dialog.current.close("no")}>${question.no}</button>
          <button value="yes" class=${question.danger ? "danger" : "primary"}>${question.yes}</button>
        </div>
      </form>
    </dialog>
  `;
}
