// The dial of one concept: evenly spaced in β, with a picture for each point of its curve.

import { chooseBeta, forgetGate, gateOf } from "../../shared/draft.js";
import { Face } from "../../shared/face.js";
import { FAINTEST, STEP, STRONGEST, figures, inWords, isSame, shareOf, strengthText } from "../../shared/gate.js";
import { html } from "../../shared/html.js";
import { Picture } from "../../shared/pictures.js";
import { store } from "../../shared/store.js";
import { pointInWords, shares, useCurve } from "./curve.js";
import { liveMoved, toggleLive } from "./live.js";

/** The dial; what is moved is sent as `concepts`, and what is not, the server chooses. */
export function Dial({ concept }) {
  const { name } = concept;
  const id = `strength-${name}`;
  const curve = useCurve(concept);
  const { source, ...gate } = gateOf(concept);
  const words = source ? `${inWords(gate.beta)}, ${source}` : inWords(gate.beta);
  const move = (beta) => {
    chooseBeta(name, beta);
    liveMoved(name);
  };
  // A range grows to the right and with every key that means more, and β falls: so its value is −β.
  return html`
    <li class="dial" data-outside=${inWords(gate.beta) === "outside the dial" ? "yes" : undefined}>
      <div class="dial-head">
        <${Face} concept=${concept} size="small" />
        <label for=${id}><code>${concept.placeholder}</code></label>
        <output for=${id}><strong>${strengthText(gate)}</strong> ${words}</output>
      </div>
      <input id=${id} type="range" min=${-FAINTEST} max=${-STRONGEST} step=${STEP} value=${-gate.beta}
        aria-label="Strength of ${concept.placeholder}" aria-describedby="strength-hint" aria-valuetext="${figures(gate)}, ${words}"
        onInput=${(event) => move(-Number(event.target.value))} />
      ${curve && html`<${Points} concept=${concept} curve=${curve} beta=${gate.beta} pick=${move} />`}
      <p class="ends" aria-hidden="true"><span>follows the prompt</span><span>like your photos</span></p>
      <div class="dial-foot" role="group" aria-label="Dial of ${concept.placeholder}">
        ${!store.edit.value && html`<${LiveButton} name=${name} />`}
        ${!source && html`<button type="button" class="quiet small" onClick=${() => forgetGate(name)} aria-label="Let ${concept.placeholder} follow the locking again">Automatic</button>`}
      </div>
    </li>
  `;
}

function LiveButton({ name }) {
  const live = store.live.value;
  const on = live.on && live.name === name;
  return html`
    <button type="button" class="small live" aria-pressed=${String(on)} onClick=${() => toggleLive(name)}
      title="Drag the dial and watch the same image change">Live</button>
    ${on && html`<span class="hint">${live.state || "Drag: the image follows."}</span>`}
  `;
}

/** One button for each point of the curve, under the place of the dial where it lies. */
function Points({ concept, curve, beta, pick }) {
  const points = curve.points;
  // Points of an earlier release are not evenly spaced and may lie beyond the dial: a row in their order.
  const even = points.every(({ beta: at }, k) => Math.abs(shareOf(at) * (points.length - 1) - k) < 0.05);
  return html`
    <div class="points" role="group" data-even=${even ? "yes" : undefined} style=${{ "--points": points.length }}
      aria-label="Images of ${concept.placeholder} at ${points.length} strengths">
      ${points.map((point, k) => {
        const best = point.strength === curve.recommended_strength;
        const { looks, follows } = shares(point, curve);
        const words = `${pointInWords(point, curve)}.`;
        return html`
          <button type="button" class="point" key=${k} data-best=${best ? "yes" : undefined} title=${words}
            aria-label=${words} aria-pressed=${String(isSame(point.beta, beta))} onClick=${() => pick(point.beta)}>
            <${Picture} address="${point.thumbnail_url}#${concept.sha256}" />
            <span class="bars" aria-hidden="true">
              <span class="looks" style=${{ "--share": `${looks}%` }}></span>
              <span class="follows" style=${{ "--share": `${follows}%` }}></span>
            </span>
          </button>
        `;
      })}
    </div>
  `;
}
