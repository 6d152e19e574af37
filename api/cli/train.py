"""`perfusion train`: teach a concept without a server.

Torch is imported inside the functions, so that `--help` and wrong options are answered at once.
Pictures have to meet the same rules as uploads to the server.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli import check
from api.cli.base_model import ModelOptions, load
from api.cli.errors import CommandError
from api.cli.files import open_pictures
from api.cli.options import with_options
from api.cli.progress import first_interrupt, loading_bar, progress_bar
from perfusion_core.callbacks import run_at_once
from perfusion_core.config import TrainConfig
from perfusion_core.evaluation.verdict import figures_of, verdict
from perfusion_core.strength import beta_from_strength
from perfusion_core.text.superclasses import superclass_sentence
from service import log, validation


@with_options(TrainConfig)
def train(
    pictures: Annotated[
        list[Path], typer.Argument(help="1 to 20 pictures of the subject: JPEG, PNG, WebP, HEIC.")
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
    model: ModelOptions,
    options: dict[str, Any],
) -> None:
    """Teach a concept and write its file, without a server.

    Ctrl+C ends the training early: the best state so far is judged and written. A second Ctrl+C
    aborts and writes nothing.
    """
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

    chosen = model.settings()
    # While a progress bar is shown, only warnings are logged, on stderr.
    log.configure(chosen.model_copy(update={"log_level": "warning"}), for_command=True)
    base = load(chosen)
    unfamiliar = superclass_sentence(
        superclass, known=base.defaults.known_superclasses, tokenizer=base.tokenizers[0]
    )
    if unfamiliar is not None:
        typer.echo(unfamiliar, err=True)
    begun_s = time.perf_counter()
    finds_objects = segmenter.find(
        opened,
        opened_masks or [None] * len(opened),
        name=chosen.segmenter,
        device=base.placed.side_device,
    )
    training = begin(
        base,
        opened,
        name=name,
        superclass=superclass,
        config=base.defaults.train_config(options),
        masks=opened_masks,
        segmenter=finds_objects,
    )
    check.warn(pictures, training, searched=finds_objects is not None)
    evaluators = Evaluators(chosen)
    with loading_bar() as report:
        evaluators.load(base, report)

    def finish() -> bool:
        if training.step > 0:
            typer.echo("Finishing with the best state so far; Ctrl+C again aborts.", err=True)
            training.finish()
        return training.step > 0

    with (
        progress_bar(f"Teaching <{name}>", total=training.config.max_train_steps) as advance,
        first_interrupt(finish),
    ):
        evaluator = TrainingEvaluator(
            training,
            evaluator=evaluators.for_base_model(base),
            pictures=training.examples.squares,
            run_on_device=run_at_once,
            check=lambda: advance(training.step),
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
