// A picture to paint on: brush, eraser and boxes, with mouse, pen, touch and keys.

import { html, useEffect, useRef, useState } from "../shared/html.js";
import { count } from "../shared/words.js";
import { boxBetween, draw } from "./strokes.js";

const COLOUR = "rgb(11 160 138)";
const MOST_CANVAS_PIXELS = 1280;
export const TOOLS = { brush: "Brush", box: "Box", erase: "Eraser" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** `picture`: `{url, width, height}`; `size`: the brush in hundredths of its longer side. */
export function Paint({ id, picture, strokes, tool, size, onStrokes, alt }) {
  const { url, width, height } = picture;
  const canvas = useRef(null);
  const [growing, setGrowing] = useState(/** @type {any} */ (null));
  const scale = Math.min(1, MOST_CANVAS_PIXELS / Math.max(width, height));

  useEffect(() => {
    const context = canvas.current.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.current.width, canvas.current.height);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    draw(context, growing ? [...strokes, growing] : strokes, COLOUR);
  }, [strokes, growing, scale]);

  const at = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return /** @type {[number, number]} */ ([
      ((event.clientX - box.left) * width) / box.width,
      ((event.clientY - box.top) * height) / box.height,
    ]);
  };

  function press(event) {
    // A second finger paints nothing.
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    canvas.current.focus({ preventScroll: true });
    canvas.current.setPointerCapture(event.pointerId);
    const point = at(event);
    const brush = (size / 100) * Math.max(width, height);
    setGrowing(tool === "box" ? { tool, from: point, box: [...point, 0, 0] } : { tool, size: brush, points: [point] });
  }

  function move(event) {
    if (!event.isPrimary) return;
    const point = at(event);
    setGrowing((line) => {
      if (!line) return line;
      if (line.tool === "box") return { ...line, box: boxBetween(line.from, point, picture) ?? line.box };
      return { ...line, points: [...line.points, point] };
    });
  }

  function release(event) {
    if (!growing || !event.isPrimary) return;
    const { from: _, ...stroke } = growing;
    setGrowing(null);
    if (stroke.tool !== "box" || stroke.box[2] > 0) onStrokes([...strokes, stroke]);
  }

  // Without a pointer: arrow keys move the last box, with Shift they change its size.
  function onKeyDown(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "z") onStrokes(strokes.slice(0, -1));
    const last = strokes.at(-1);
    const arrow = ARROWS[event.key];
    if (!arrow || last?.tool !== "box") return;
    event.preventDefault();
    event.stopPropagation();
    const box = moved(last.box, arrow, event.shiftKey, picture);
    if (box) onStrokes([...strokes.slice(0, -1), { tool: "box", box }]);
  }

  const last = strokes.at(-1);
  const spoken = last?.tool === "box" ? `Box of ${last.box[2]} × ${last.box[3]} pixels at ${last.box[0]}, ${last.box[1]}.` : "";
  return html`
    <div class="easel" style=${{ "--ratio": width / height }}>
      <img src=${url} alt=${alt} />
      <canvas ref=${canvas} id=${id} tabindex="0" role="application" data-tool=${tool} width=${Math.round(width * scale)} height=${Math.round(height * scale)}
        aria-label="Mask: ${count(strokes.length, "stroke")}. Arrow keys move the last box, with Shift they change its size."
        onPointerDown=${press} onPointerMove=${move} onPointerUp=${release} onPointerCancel=${release} onKeyDown=${onKeyDown}></canvas>
      <p class="sr" role="status">${spoken}</p>
    </div>
  `;
}

function moved([x, y, w, h], arrow, resize, picture) {
  const step = Math.max(1, Math.round(Math.max(picture.width, picture.height) / 64));
  const [dx, dy] = arrow.map((way) => way * step);
  if (resize) return boxBetween([x, y], [x + Math.max(1, w + dx), y + Math.max(1, h + dy)], picture);
  const left = Math.min(picture.width - w, Math.max(0, x + dx));
  const top = Math.min(picture.height - h, Math.max(0, y + dy));
  return boxBetween([left, top], [left + w, top + h], picture);
}

/** The tools of a picture to paint on. */
export function PaintTools({ id, picture, strokes, tool, size, onStrokes, onTool, onSize }) {
  const { width, height } = picture;
  const addBox = () => {
    const box = boxBetween([width / 4, height / 4], [(3 * width) / 4, (3 * height) / 4], picture);
    if (box) onStrokes([...strokes, { tool: "box", box }]);
    document.getElementById(id)?.focus();
  };
  const none = strokes.length === 0;
  return html`
    <div class="actions" role="group" aria-label="Mask tools">
      ${Object.entries(TOOLS).map(([name, label]) => html`
        <button type="button" class="small" key=${name} aria-pressed=${String(tool === name)} onClick=${() => onTool(name)}>${label}</button>
      `)}
      <label class="zoom" for="${id}-size">Brush size <input id="${id}-size" type="range" min="2" max="40" value=${size} onInput=${({ target }) => onSize(Number(target.value))} /></label>
      <button type="button" class="small" onClick=${addBox}>Box in the middle</button>
      <button type="button" class="small" disabled=${none} onClick=${() => onStrokes(strokes.slice(0, -1))}>Undo</button>
      <button type="button" class="small" disabled=${none} onClick=${() => onStrokes([])}>Clear the mask</button>
    </div>
  `;
}
