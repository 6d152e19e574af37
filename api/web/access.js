// The API key: asked for when the server answers 401, kept for this tab only.

import { access, apiKey, dropApiKey, setApiKey } from "./api.js";
import { byId, say } from "./dom.js";

/** Show the key panel when it is needed; `whenUnlocked` runs after a key was entered. */
export function askForKeys(whenUnlocked) {
  const panel = byId("access");
  const input = byId("api-key");
  const forget = byId("forget-key");

  access.addEventListener("needed", () => {
    if (apiKey() !== null) {
      say(byId("api-key-error"), "The server does not accept this key.");
      dropApiKey();
    }
    forget.hidden = true;
    if (!panel.hidden) return;
    panel.hidden = false;
    input.focus();
  });
  byId("access-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    panel.hidden = true;
    say(byId("api-key-error"), "");
    setApiKey(input.value.trim());
    input.value = "";
  });
  // What the key had opened must not stay on the screen.
  forget.addEventListener("click", () => {
    dropApiKey();
    location.reload();
  });
  access.addEventListener("changed", () => {
    forget.hidden = false;
    whenUnlocked();
  });
  forget.hidden = apiKey() === null;
}
