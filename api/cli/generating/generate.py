"""`perfusion generate`: images without a server.

Torch is imported inside the functions, so that `--help` and wrong options are answered at once.
"""

from typing import Annotated, Any

import typer

from api.cli.base_model import ModelOptions, load
from api.cli.generating.images import Asked, ImageMaker, ImageOptions
from api.cli.generating.sweeps import SweepsOption, make_sweep, read_sweep
from api.cli.options import with_options
from perfusion_core.config import GenerateConfig
from worker.metadata import metadata_of


@with_options(GenerateConfig)
def generate(
    prompt: Annotated[
        str, typer.Argument(help="The scene, e.g. 'a photo of <rex> next to <teddy>'.")
    ],
    *,
    sweeps: SweepsOption = None,
    given: ImageOptions,
    model: ModelOptions,
    options: dict[str, Any],
) -> None:
    """Make images from a prompt with concept files, without a server."""
    if sweeps:
        sweep = read_sweep(sweeps, prompt=prompt, options=options, given=given)
    else:
        asked = Asked.read(prompt, options=options, given=given)
    chosen = model.settings()
    metadata = metadata_of(chosen)
    maker = ImageMaker(load(chosen), metadata)
    if sweeps:
        make_sweep(maker, sweep)
    else:
        maker.make(asked)
