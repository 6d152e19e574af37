// The stage while a picture is edited: what is painted on it is made anew.

import { html } from "../shared/html.js";
import { store } from "../shared/store.js";
import { changeEdit, leaveEdit } from "./begin.js";
import { Paint, PaintTools } from "./paint.js";

export function Editor() {
  const edit = store.edit.value;
  const own = {
    id: "mask",
    picture: edit,
    strokes: edit.strokes,
    tool: edit.tool,
    size: edit.size,
    onStrokes: (strokes) => changeEdit({ strokes }),
  };
  return html`
    <div class="stage-head">
      <p class="stage-prompt">Paint what is made anew, then say in the prompt what goes there. Without a mask the whole picture changes.</p>
      <button type="button" class="small" onClick=${leaveEdit}>Leave the edit</button>
    </div>
    <div class="single"><${Paint} ...${own} alt="The picture that is edited" /></div>
    <${PaintTools} ...${own} onTool=${(tool) => changeEdit({ tool })} onSize=${(size) => changeEdit({ size })} />
  `;
}
