// A sentence for everyone, at the lower edge: spoken, and gone after a while.

import { html, useEffect, useState } from "./html.js";
import { store } from "./store.js";

const SHOWN_MS = 7000;

export function Notice() {
  const { text, action, at } = store.notice.value;
  const [over, setOver] = useState(0);
  useEffect(() => {
    if (!text) return undefined;
    const timer = setTimeout(() => setOver(at), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [at]);
  const shown = text && over !== at;
  const act = () => {
    setOver(at);
    action.run();
  };
  return html`
    <div class="notice" data-shown=${shown ? "yes" : undefined}>
      <p id="notice" role="status">${text}</p>
      ${shown && action && html`<button type="button" class="small" onClick=${act}>${action.text}</button>`}
      ${shown && html`<button type="button" class="quiet small" aria-label="Dismiss" onClick=${() => setOver(at)}>×</button>`}
    </div>
  `;
}
