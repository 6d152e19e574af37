// The keyboard's place: what has the focus may go, or be disabled; what is next to it then has the focus.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']";

/** Where the focus was last, from the element up to the body: each with its place among its siblings. */
let path = /** @type {Array<{element: Element, place: number}>} */ ([]);

/** Keep the focus inside the page; only for the keyboard, as a pointer has a place of its own. */
export function keepFocus(page) {
  document.addEventListener("focusin", ({ target }) => {
    const element = /** @type {Element} */ (target);
    path = element.matches(":focus-visible") ? pathOf(element) : [];
  });
  const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled", "hidden"] };
  new MutationObserver(() => {
    const [last] = path;
    // What was just disabled is still the active element.
    const free = [document.body, last?.element].includes(/** @type {HTMLElement} */ (document.activeElement));
    if (last && free && isLost(last.element)) nearest()?.focus();
  }).observe(page, changes);
}

function pathOf(element) {
  const found = [];
  for (let at = element; at.parentElement; at = at.parentElement) {
    found.push({ element: at, place: [...at.parentElement.children].indexOf(at) });
  }
  return found;
}

const isLost = (element) => !element.isConnected || element.matches(":disabled") || !element.checkVisibility();
const takesFocus = (element) => element.matches(FOCUSABLE) && !element.matches("[tabindex='-1']") && !isLost(element);

/** The first that takes the focus: behind the lost place, then before it, then further out. */
function nearest() {
  for (let k = 1; k < path.length; k += 1) {
    const { element } = path[k];
    if (!element.isConnected) continue;
    const children = [...element.children];
    const { place } = path[k - 1];
    for (const child of [...children.slice(place), ...children.slice(0, place).reverse()]) {
      const found = [child, ...child.querySelectorAll(FOCUSABLE)].find(takesFocus);
      if (found) return /** @type {HTMLElement} */ (found);
    }
  }
  return null;
}
