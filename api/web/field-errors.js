// A refusal, shown next to the field that it is about.

import { el, say } from "./dom.js";

const errorOf = (control) => document.getElementById(`${control.id}-error`);

export function showFieldProblem(control, text) {
  const place = errorOf(control);
  if (place) say(place, text);
  control.setAttribute("aria-invalid", "true");
}

export function clearFieldProblem(control) {
  const place = errorOf(control);
  if (place) say(place, "");
  control.removeAttribute("aria-invalid");
}

export function clearErrors(form, alert) {
  form.querySelectorAll("[data-pointer]").forEach(clearFieldProblem);
  say(alert, "");
}

/**
 * Put each of the problem's `errors` beside the control whose data-pointer it names (or that
 * holds it: `/concepts/0/strength` belongs to `/concepts`), the rest into `alert`, and move the
 * focus to the first. `special(pointer, detail)` may take an error for itself.
 */
export function showProblem(form, alert, error, special = () => null) {
  const controls = new Map(
    [...form.querySelectorAll("[data-pointer]")].map((one) => [one.dataset.pointer, one]),
  );
  const placed = [];
  const homeless = [];
  for (const { pointer = "", detail } of error.errors ?? []) {
    const taken = special(pointer, detail);
    const control = taken ?? nearest(controls, pointer);
    if (!control) homeless.push(pointer ? `${pointer.slice(1)}: ${detail}` : detail);
    else if (!taken) showFieldProblem(control, detail);
    if (control) placed.push(control);
  }
  if (placed.length === 0 || homeless.length > 0) {
    alert.replaceChildren(error.message, ...homeless.map((text) => el("span", {}, text)));
    alert.hidden = false;
  }
  if (placed.length > 0) {
    placed[0].closest("details")?.setAttribute("open", "");
    placed[0].focus();
  }
}

function nearest(controls, pointer) {
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    if (controls.has(at)) return controls.get(at);
  }
  return null;
}

/** Show an error as words, whatever it is: the server's, or a mistake of this page. */
export function showAlert(alert, error) {
  say(alert, error.message || String(error));
}
