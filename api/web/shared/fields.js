// A labelled field with its hint, and the refusal that belongs to it.

import { boundsOf, inputBounds, outOfBounds } from "../server/base-model.js";
import { html } from "./html.js";
import { store } from "./store.js";

/** What a field holds that is no number at all. */
export const NO_NUMBER = "?";

/** A field around its control; `pointer` names what the server calls it. */
export function Field({ id, label, hint = "", pointer = "", wide = false, children }) {
  const refusal = store.refusals.value[pointer] ?? "";
  return html`
    <div class=${wide ? "field wide" : "field"}>
      ${label && html`<label for=${id}>${label}</label>`} ${children}
      ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
      <p class="error" id="${id}-error" hidden=${!refusal}>${refusal}</p>
    </div>
  `;
}

/** What a control of a field carries: its id, where its words are, and whether it is refused. */
export function controlOf(id, pointer, hint = "") {
  return {
    id,
    "data-pointer": pointer,
    "aria-describedby": hint ? `${id}-hint ${id}-error` : `${id}-error`,
    "aria-invalid": store.refusals.value[pointer] ? "true" : undefined,
  };
}

/** A number of the base model's; what is no number is kept on the screen, and refused later. */
export function NumberField({ id, label, option, kind = "generate", pointer = `/${option}`, value, onValue, ...others }) {
  const input = (event) => onValue(event.target.validity.badInput ? NO_NUMBER : event.target.value);
  const { hint, wide, ...own } = others;
  return html`
    <${Field} id=${id} label=${label} pointer=${pointer} hint=${hint} wide=${wide}>
      <input type="number" ...${inputBounds(boundsOf(kind, option))} ...${controlOf(id, pointer, hint)}
        value=${value === NO_NUMBER ? undefined : value} onInput=${input} ...${own} />
    <//>
  `;
}

/** The number in a field: `{value}`, `{}` for an empty one, or `{refusal}`. */
export function readNumber(text, bounds) {
  if (text === "" || text === undefined || text === null) return {};
  const value = Number(text);
  const refusal = outOfBounds(bounds, value);
  return refusal ? { refusal } : { value };
}

/**
 * Put each of the problem's `errors` at the field whose pointer it names (or that holds it:
 * `/concepts/0/strength` belongs to `/concepts`), the rest under "", and go to the first.
 * @param {ParentNode} form
 * @param {any} error
 */
export function showRefusals(form, error) {
  const controls = [...form.querySelectorAll("[data-pointer]")].map((control) => control.getAttribute("data-pointer"));
  const found = {};
  const homeless = [];
  for (const { pointer = "", detail } of error.errors ?? []) {
    const place = nearest(controls, pointer);
    if (place) found[place] = [found[place], detail].filter(Boolean).join(" ");
    else homeless.push(pointer ? `${pointer.slice(1)}: ${detail}` : detail);
  }
  if (Object.keys(found).length === 0 || homeless.length > 0) {
    found[""] = [error.message || String(error), ...homeless.filter((text) => text !== error.message)].join("\n");
  }
  store.refusals.value = found;
  goToRefusal(form);
}

/** Open what hides the first refused control, and focus it. */
export function goToRefusal(form) {
  setTimeout(() => {
    const first = form.querySelector('[aria-invalid="true"]');
    first?.closest("details")?.setAttribute("open", "");
    first?.focus();
  });
}

function nearest(pointers, pointer) {
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    if (pointers.includes(at)) return at;
  }
  return null;
}

/** What is about no field, as an alert. */
export function FormAlert({ id }) {
  const text = store.refusals.value[""] ?? "";
  return html`<p class="alert" id=${id} role="alert" hidden=${!text}>${text.split("\n").map((line) => html`<span>${line}</span>`)}</p>`;
}
