// Where each word acted: a row of words beside the enlarged image; each shows its map over it.

import { attentionMapOf } from "./image-cache.js";
import { byId, el } from "./dom.js";

/**
 * Fill the row with the words of an image. Pointing at one shows its map, choosing one keeps it;
 * `display(url)` puts a map in the image's place, and `display(null)` the image itself.
 */
export function showWords(image, display) {
  const maps = image.attention_maps ?? [];
  let pointed = null;
  let kept = null;

  async function update() {
    const wanted = pointed ?? kept;
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === kept)));
    if (wanted === null) return display(null);
    try {
      const { url } = await attentionMapOf(image.id, wanted);
      if (wanted === (pointed ?? kept)) display(url);
    } catch (error) {
      byId("viewer-words-hint").textContent = error.message;
    }
  }

  function point(k) {
    pointed = k;
    update();
  }

  function keep(k) {
    kept = kept === k ? null : k;
    update();
  }

  const buttons = maps.map(({ word, concept_id: concept, coverage }, k) =>
    el(
      "button",
      {
        type: "button",
        class: concept ? "small word named" : "small word",
        "aria-pressed": "false",
        onpointerenter: () => point(k),
        onpointerleave: () => point(null),
        onclick: () => keep(k),
      },
      word,
      el("span", { class: "coverage" }, ` ${Math.round(100 * coverage)} %`),
    ),
  );
  byId("viewer-words-hint").textContent =
    "Point at a word to see where it acted, or choose it. The number is how much of the image it covers.";
  byId("viewer-words-list").replaceChildren(...buttons);
  byId("viewer-words").hidden = maps.length === 0;
}
