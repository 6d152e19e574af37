"""`perfusion browser-page`: a folder with a page that draws concepts in a visitor's browser."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import api
from api.cli.base_model import BaseModelOption, ModelOptions, load
from api.cli.errors import CommandError
from api.cli.files import ConceptFile, find_concepts
from api.cli.sharing.onnxruntime_web import runtime_files
from perfusion_core.text.prompt import parse
from service import validation
from service.generations.strengths import gate_of_strength

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel
    from perfusion_core.conditioning import ConceptUse

_WEB = Path(api.__file__).parent / "web"
OWN_FILES = (
    "play/play.js", "play/drawing.js", "play/worker.js", "play/png.js", "shared/gate.js",
    "shared/download.js", "styles/base.css", "styles/controls.css", "styles/layout.css",
    "styles/play.css", "icon.svg",
)  # fmt: skip


def browser_page(
    prompts: Annotated[
        list[str], typer.Argument(help="What visitors may draw, e.g. 'a photo of <rex> at night'.")
    ],
    *,
    concepts: Annotated[
        list[Path] | None,
        typer.Option("--concept", help="A concept file. Default: NAME.safetensors of each <name>."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the page. Default: where the server serves it as /play."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(help="The npm package's file onnxruntime-web-….tgz. Default: npm fetches it."),
    ] = None,
    base_model: BaseModelOption = None,
) -> None:
    """Make a page that draws concepts in a visitor's browser, without a server.

    The folder holds the whole page: any web server serves it. A visitor gets the base model and
    the Keys and Values of the prompts, but no concept file.
    """
    texts = [validation.check_prompt(text, pointer="/prompt") for text in dict.fromkeys(prompts)]
    names = {text: list(dict.fromkeys(parse(text).names)) for text in texts}
    if plain := next((text for text, own in names.items() if not own), None):
        raise CommandError(f"{plain!r} names no concept: write one into it, such as <rex>.")
    every = list(dict.fromkeys(name for own in names.values() for name in own))
    found = find_concepts(every, concepts or [])
    if runtime is not None and not runtime.is_file():
        raise CommandError(f"There is no file {runtime}.")
    if find_spec("onnx") is None:
        raise CommandError("A graph is made with onnx: pip install 'perfusion[browser]'.")
    own_runtime = runtime_files(runtime)
    settings = ModelOptions(base_model=base_model, device="cpu", dtype="float32").settings()
    base = load(settings.model_copy(update={"backend": "eager"}))
    uses = _uses(base, {text: {each: found[each] for each in own} for text, own in names.items()})

    from perfusion_core.browser.page import make_files

    files = make_files(base, uses, runtime=own_runtime, tells_prompts=settings.metadata_prompts)
    files |= {name: (_WEB / name).read_bytes() for name in OWN_FILES}
    files["index.html"] = (_WEB / "play" / "index.html").read_bytes()
    folder = out or settings.browser_page_dir
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    total = sum(len(data) for data in files.values())
    count = f"{len(texts)} prompt{'s' if len(texts) > 1 else ''}"
    typer.echo(f"{folder}: {count}, {total / 1e6:.1f} MB for a visitor to load.")


def _uses(
    base: "BaseModel", prompts: Mapping[str, Mapping[str, ConceptFile]]
) -> "dict[str, dict[str, ConceptUse]]":
    """Return the concepts of each prompt, at the strengths that it writes; warn of cuts."""
    from perfusion_core.conditioning import ConceptUse
    from perfusion_core.text.tokenization import cut_sentence

    for text in prompts:
        if cut := cut_sentence(base.tokenizers[0], parse(text), name=f"The prompt {text!r}"):
            typer.echo(cut, err=True)
    uses: dict[str, dict[str, ConceptUse]] = {}
    for text, own in prompts.items():
        given = {name: gate_of_strength(s) for name, s in parse(text).strengths.items()}
        betas = {name: gate.beta for name, gate in given.items()}
        uses[text] = {name: ConceptUse(file.concept, betas.get(name)) for name, file in own.items()}
    return uses
