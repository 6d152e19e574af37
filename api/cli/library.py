"""`perfusion train`, `generate` and `prepare`: the method without a server.

Torch is imported inside the functions, so that `--help` and wrong options are answered at once.
Pictures have to meet the same rules as uploads to the server.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.errors import CommandError
from api.cli.files import find_concepts, free_name, map_name, open_pictures
from api.cli.options import with_options
from api.cli.progress import progress_bar
from api.cli.strengths import read_gates
from perfusion_core.callbacks import run_at_once
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.evaluation.verdict import figures_of, verdict
from perfusion_core.strength import beta_from_strength
from perfusion_core.text.prompt import parse
from service import log, validation
from service.generations.strengths import gate_of_strength
from service.settings import environment

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

BaseModelOption = Annotated[
    str | None,
    typer.Option(
        "--base-model",
        help="Folder or hub name. Default: PERFUSION_BASE_MODEL, or the shipped one.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps. Default: PERFUSION_DEVICE.")
]


@with_options(TrainConfig)
def train(
    pictures: Annotated[
        list[Path], typer.Argument(help="1 to 20 pictures of the subject: JPEG, PNG or WebP.")
    ],
    *,
    name: Annotated[str, typer.Option(help="The concept's name; <name> is its placeholder.")],
    superclass: Annotated[str, typer.Option(help="What it is, in 1 to 3 words: teddy bear.")],
    masks: Annotated[
        list[Path] | None,
        typer.Option("--mask", help="One per picture, in the same order; white is the subject."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: NAME.safetensors.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Write float16: half the size.")] = False,
    base_model: BaseModelOption = None,
    device: DeviceOption = None,
    options: dict[str, Any],
) -> None:
    """Teach a concept and write its file, without a server."""
    validation.check_name(name)
    superclass = validation.check_superclass(superclass)
    file = out or Path(f"{name}.safetensors")
    if not file.parent.is_dir():
        raise CommandError(f"There is no folder {file.parent} to write {file.name} into.")
    opened, opened_masks = open_pictures(pictures, masks or [])

    from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
    from perfusion_core.training.trainer import train as begin
    from worker.models import segmenter
    from worker.models.evaluators import Evaluators

    chosen = environment.load()
    if base_model is not None:
        chosen = chosen.model_copy(update={"base_model": base_model})
    base = _load(base_model, device)
    begun_s = time.perf_counter()
    training = begin(
        base,
        opened,
        name=name,
        superclass=superclass,
        config=base.defaults.train_config(options),
        masks=opened_masks,
        segmenter=segmenter.find(
            opened,
            opened_masks or [None] * len(opened),
            name=chosen.segmenter,
            device=str(base.device),
        ),
    )
    # While a progress bar is shown, only warnings are logged, on stderr.
    log.configure(chosen.model_copy(update={"log_level": "warning"}))
    evaluators = Evaluators(chosen)
    evaluators.load(base)
    with progress_bar(f"Teaching <{name}>", total=training.config.max_train_steps) as advance:
        evaluator = TrainingEvaluator(
            training,
            evaluator=evaluators.for_base_model(base),
            pictures=opened,
            run_on_device=run_at_once,
            check=lambda: None,
        )
        for step in training:
            advance(step.step)
            evaluator.evaluate_when_due()
        concept = evaluator.evaluated_concept()
    concept.save(file, "float16" if half else "float32")
    typer.echo(
        f"{file}: <{name}>, {file.stat().st_size} bytes, {training.step} steps in "
        f"{time.perf_counter() - begun_s:.0f} s, masks: {training.mask_source}."
    )
    if concept.evaluation is not None and (figures := figures_of(concept.evaluation)) is not None:
        judged = verdict(
            figures,
            superclass=superclass,
            base_model=base.fingerprint,
            calibration=base.calibration,
        )
        typer.echo(
            f"{judged.quality}: {' '.join(judged.reasons)} "
            f"Best at β = {beta_from_strength(figures.strength):.2f}, which "
            f"`perfusion generate` takes by itself."
        )


@with_options(GenerateConfig)
def generate(
    prompt: Annotated[
        str, typer.Argument(help="The scene, e.g. 'a photo of <rex> next to <teddy>'.")
    ],
    *,
    concepts: Annotated[
        list[Path] | None,
        typer.Option("--concept", help="A concept file. Default: NAME.safetensors of each <name>."),
    ] = None,
    betas: Annotated[
        list[str] | None,
        typer.Option(
            "--beta",
            metavar="NAME=NUMBER",
            help="Bias of a concept's gate, from 0.9 (faint) to 0.3 (strong), e.g. rex=0.6. "
            "Default: what its file recommends, else 0.7; with global locking 0.5. It wins over a "
            "strength in the prompt.",
        ),
    ] = None,
    taus: Annotated[
        list[str] | None,
        typer.Option(
            "--tau",
            metavar="NAME=NUMBER",
            help="Temperature of a concept's gate; needs its --beta, too. Default: 0.15.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the images.")] = Path(),
    attention_maps: Annotated[
        bool, typer.Option("--attention-maps", help="Also write an attention map for each word.")
    ] = False,
    base_model: BaseModelOption = None,
    device: DeviceOption = None,
    options: dict[str, Any],
) -> None:
    """Make images from a prompt with concept files, without a server."""
    prompt = validation.check_prompt(prompt, pointer="/prompt")
    parsed = parse(prompt)
    gates = {name: gate_of_strength(strength) for name, strength in parsed.strengths.items()}
    gates |= read_gates(betas or [], taus or [], names=parsed.names)
    used = find_concepts(prompt, concepts or [])
    out.mkdir(parents=True, exist_ok=True)

    from perfusion_core.conditioning import ConceptUse
    from perfusion_core.sampling import overlays
    from perfusion_core.sampling.png import encode
    from perfusion_core.sampling.sample import Sample
    from perfusion_core.sampling.sampler import ImageRequest, decode, start, step

    base = _load(base_model, device)
    uses = {}
    for name, file in used.items():
        base.check(file.concept)
        gate = gates.get(name)
        uses[name] = (
            ConceptUse(file.concept, beta=gate.beta, tau=gate.tau)
            if gate
            else ConceptUse(file.concept)
        )
    config = base.defaults.generate_config(options)
    request = ImageRequest(
        prompt=prompt, concepts=uses, config=config, attention_maps=attention_maps
    )
    trajectories = start(base, request)
    with progress_bar("Denoising", total=trajectories[0].total_steps) as advance:
        while not trajectories[0].finished:
            step(base, trajectories)
            advance(trajectories[0].step_index)
    hashes = {name: file.sha256 for name, file in used.items()}
    for trajectory in trajectories:
        sample = Sample(image=decode(base, trajectory), seed=trajectory.seed)
        png = encode(sample, request=request, concept_hashes=hashes, base=base)
        target = free_name(out, trajectory.seed)
        target.write_bytes(png)
        typer.echo(str(target))
        for number, word_map in enumerate(trajectory.maps.means() if trajectory.maps else ()):
            word = word_map.word
            drawn = map_name(target, number, word=word.concept or word.text)
            drawn.write_bytes(overlays.draw(sample.image, word_map.share))
            typer.echo(f"{drawn} ({word_map.coverage:.0%} covered)")


def prepare(
    model: Annotated[str, typer.Argument(help="Folder or hub name of the base model.")],
    captions: Annotated[
        Path | None,
        typer.Option(help="Text file, one caption a line. Default: captions made by Perfusion."),
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Prepare a base model: load and check it, estimate its covariance and save the covariance."""
    if captions is not None and not captions.is_file():
        raise CommandError(f"There is no caption file {captions}.")
    base = _load(model, device)
    if captions is not None:
        _estimate(base, captions)
    for name, value in base.describe().items():
        if isinstance(value, (str, int, float)):
            shown = f"{value:.4g}" if isinstance(value, float) else value
            typer.echo(f"{name.replace('_', ' ')}: {shown}")


def _load(name: str | None, device: str | None) -> "BaseModel":
    """Load the base model with its covariance, from the folder that the worker also uses."""
    chosen = environment.load()
    from perfusion_core.base_model import BaseModel

    with progress_bar("Loading the base model", total=None) as advance:
        return BaseModel.load(
            name or chosen.base_model,
            device=device or chosen.device,
            covariance_dir=_covariance_folder(),
            progress=advance,
        )


def _estimate(base: "BaseModel", captions: Path) -> None:
    with (
        captions.open(encoding="utf-8", errors="replace") as lines,
        progress_bar("Reading captions", total=None) as advance,
    ):
        stripped = (line.strip() for line in lines)
        covariance = base.estimate_covariance((line for line in stripped if line), progress=advance)
    covariance.save(base.covariance_path(_covariance_folder()))


def _covariance_folder() -> Path:
    folder = Path(environment.load().data_dir) / "covariance"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
