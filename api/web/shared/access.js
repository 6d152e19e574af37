// The API key: asked for when the server answers 401, kept for this tab only.

import { access, apiKey, dropApiKey, setApiKey } from "../server/api.js";
import { html, useEffect, useRef } from "./html.js";
import { store } from "./store.js";

/** Know when a key is needed; `whenUnlocked` runs after one was entered. */
export function startAccess(whenUnlocked) {
  store.key.value = { needed: false, known: apiKey() !== null, error: "" };
  access.addEventListener("needed", () => {
    const refused = apiKey() !== null;
    dropApiKey();
    const error = refused ? "The server does not accept this key." : store.key.value.error;
    store.key.value = { needed: true, known: false, error };
  });
  access.addEventListener("changed", () => {
    store.key.value = { needed: false, known: true, error: store.key.value.error };
    whenUnlocked();
  });
}

/** The panel that asks for a key, where one is needed. */
export function KeyPanel() {
  const input = useRef(null);
  const { needed, error } = store.key.value;
  useEffect(() => {
    if (needed) input.current?.focus();
  }, [needed]);
  if (!needed) return null;
  const enter = (event) => {
    event.preventDefault();
    const key = input.current.value.trim();
    if (key) setApiKey(key);
  };
  return html`
    <section class="access card" aria-labelledby="access-title">
      <form onSubmit=${enter}>
        <h2 id="access-title">This server asks for an API key</h2>
        <p class="lead">It stays in this browser tab and is forgotten when you close it.</p>
        <div class="row">
          <div class="field grow">
            <label for="api-key">API key</label>
            <input id="api-key" ref=${input} type="password" autocomplete="off" spellcheck="false" required
              aria-describedby="api-key-error" />
          </div>
          <button class="primary" type="submit">Unlock</button>
        </div>
        <p class="error" id="api-key-error" role="alert" hidden=${!error}>${error}</p>
      </form>
    </section>
  `;
}

/** What the key had opened must not stay on the screen, nor in the browser. */
export function ForgetKey() {
  if (!store.key.value.known) return null;
  const forget = () => {
    dropApiKey();
    sessionStorage.clear();
    location.reload();
  };
  return html`<button type="button" class="quiet small" onClick=${forget}>Forget API key</button>`;
}
