/** Show OpenAPI in Swagger UI, in the colours that the browser prefers. */

import { forms } from "./forms.js";
import { names } from "./names.js";

const { SwaggerUIBundle } = /** @type {any} */ (globalThis);
const dark = matchMedia("(prefers-color-scheme: dark)");

function applyColours() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

applyColours();
dark.addEventListener("change", applyColours);

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  plugins: [forms, names],
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  defaultModelRendering: "model",
  syntaxHighlight: { theme: "obsidian" },
  // A key is gone with the tab, and nothing is sent to a validator.
  persistAuthorization: false,
  validatorUrl: null,
});
