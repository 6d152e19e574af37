// Favourites, which this browser keeps.

import { html } from "../shared/html.js";
import { store } from "../shared/store.js";

export const isFavourite = (id) => store.favourites.value.includes(id);

/** A star to press. */
export function Favourite({ id, name }) {
  const on = isFavourite(id);
  const toggle = () => {
    store.favourites.value = on ? store.favourites.value.filter((each) => each !== id) : [id, ...store.favourites.value];
  };
  return html`
    <button type="button" class="star" aria-pressed=${String(on)} aria-label="Favourite, ${name}" title="Favourite" onClick=${toggle}>
      <svg aria-hidden="true" viewBox="0 0 24 24" width="20" height="20"><path d="m12 3.6 2.6 5.3 5.8.8-4.2 4.1 1 5.8-5.2-2.7-5.2 2.7 1-5.8L3.6 9.7l5.8-.8z" /></svg>
    </button>
  `;
}
