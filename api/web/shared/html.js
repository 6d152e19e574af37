// Preact, htm and signals in one import: components are functions that return html`...`.

import htm from "../vendor/htm.js";
import { h } from "../vendor/preact.js";

/** A component's markup; text in `${}` stays text. @type {any} */
export const html = htm.bind(h);

export { render } from "../vendor/preact.js";
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-hooks.js";
export { batch, computed, effect, signal } from "../vendor/signals.js";
