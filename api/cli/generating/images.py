"""Make images for a command, with the options that `generate` and `edit` share.

Torch is imported late, so that wrong input is answered at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from api.cli.errors import CommandError
from api.cli.files import ConceptFile, find_concepts, free_name, map_name
from api.cli.generating.strengths import read_choices
from api.cli.progress import progress_bar
from perfusion_core import siblings
from perfusion_core.editing.edit import Edit
from perfusion_core.imaging.metadata import Metadata
from perfusion_core.text.prompt import parse
from service import validation
from service.generations.requests import ConceptChoice
from service.generations.strengths import Gate, explicit_gates, gate_of_strength

if TYPE_CHECKING:
    from PIL import Image

    from perfusion_core.base_model import BaseModel
    from perfusion_core.conditioning import ConceptUse
    from perfusion_core.sampling.sampler import ImageRequest


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which concepts a command uses and how, and what it writes where."""

    concepts: Annotated[
        list[Path] | None,
        typer.Option("--concept", help="A concept file. Default: NAME.safetensors of each <name>."),
    ] = None
    betas: Annotated[
        list[str] | None,
        typer.Option(
            "--beta",
            metavar="NAME=NUMBER",
            help="Bias of a concept's gate, from 0.9 (faint) to 0.3 (strong), e.g. rex=0.6. "
            "Default: what its file recommends, else 0.7; with global locking 0.5. It wins over a "
            "strength in the prompt.",
        ),
    ] = None
    taus: Annotated[
        list[str] | None,
        typer.Option(
            "--tau",
            metavar="NAME=NUMBER",
            help="Temperature of a concept's gate; needs its --beta, too. Default: 0.15.",
        ),
    ] = None
    out: Annotated[Path, typer.Option(help="Folder of the images.")] = Path()
    attention_maps: Annotated[
        bool, typer.Option("--attention-maps", help="Also write an attention map for each word.")
    ] = False
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Also use concepts of a sibling of the base model, such as another fine-tune with "
            "the same text encoders.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command asks for, as far as it can be checked without the base model."""

    prompt: str
    gates: Mapping[str, Gate]
    concepts: Mapping[str, ConceptFile]
    options: Mapping[str, Any]  # of the method
    given: ImageOptions

    @classmethod
    def read(cls, prompt: str, *, options: Mapping[str, Any], given: ImageOptions) -> Self:
        """Check prompt, gates and concept files, and make the folder of the images."""
        concepts, choices = read_concepts([prompt], given=given)
        return cls.of(prompt, concepts=concepts, choices=choices, options=options, given=given)

    @classmethod
    def of(
        cls,
        prompt: str,
        *,
        concepts: Mapping[str, ConceptFile],
        choices: Sequence[ConceptChoice],
        options: Mapping[str, Any],
        given: ImageOptions,
    ) -> Self:
        """Return what is asked for; `choices` win over the strengths in the prompt."""
        prompt = validation.check_prompt(prompt, pointer="/prompt")
        parsed = parse(prompt)
        gates = {name: gate_of_strength(strength) for name, strength in parsed.strengths.items()}
        for choice, gate in zip(choices, explicit_gates(choices), strict=True):
            if choice.name not in parsed.names:
                raise CommandError(
                    f"A gate of <{choice.name}> is given, which is not in the prompt {prompt!r}: "
                    "write it into the prompt."
                )
            assert choice.name is not None and gate is not None  # each has a strength or a beta
            gates[choice.name] = gate
        used = {name: concepts[name] for name in parsed.names}
        return cls(prompt=prompt, gates=gates, concepts=used, options=options, given=given)


def read_concepts(
    prompts: Iterable[str], *, given: ImageOptions
) -> tuple[dict[str, ConceptFile], list[ConceptChoice]]:
    """Check prompts; return the files of their concepts by name, and the gates that are given.

    Makes the folder of the images.
    """
    checked = [validation.check_prompt(prompt, pointer="/prompt") for prompt in prompts]
    names = list(dict.fromkeys(name for prompt in checked for name in parse(prompt).names))
    choices = read_choices(given.betas or (), given.taus or (), names=names)
    concepts = find_concepts(names, given.concepts or [])
    given.out.mkdir(parents=True, exist_ok=True)
    return concepts, choices


@dataclass
class ImageMaker:
    """Makes images with a base model and writes them; warns of each thing once."""

    base: "BaseModel"
    metadata: Metadata
    edit: Edit | None = None
    _warned: set[str] = field(default_factory=set)

    def make(self, asked: Asked, *, label: str = "Denoising") -> "list[Image.Image]":
        """Write the images and their attention maps, tell the files' names; return the images."""
        from perfusion_core.sampling import overlays
        from perfusion_core.sampling.png import encode
        from perfusion_core.sampling.sample import Sample
        from perfusion_core.sampling.sampler import ImageRequest, decode, start, step

        base, given = self.base, asked.given
        request = ImageRequest(
            prompt=asked.prompt,
            concepts=self._uses(asked),
            config=base.defaults.generate_config(asked.options),
            attention_maps=given.attention_maps,
            edit=self.edit,
        )
        self._warn_of_cuts(request)
        trajectories = start(base, request)
        with progress_bar(label, total=trajectories[0].total_steps) as advance:
            while not trajectories[0].finished:
                step(base, trajectories)
                advance(trajectories[0].step_index)
        hashes = {name: file.sha256 for name, file in asked.concepts.items()}
        images = []
        for trajectory in trajectories:
            sample = Sample.of(trajectory, decode(base, trajectory))
            png = encode(
                sample,
                request=request,
                concept_hashes=hashes,
                base=base,
                metadata=self.metadata,
            )
            target = free_name(given.out, str(sample.seed))
            target.write_bytes(png)
            typer.echo(str(target))
            for number, word_map in enumerate(sample.maps or ()):
                word = word_map.word
                drawn = map_name(target, number, word=word.concept or word.text)
                drawn.write_bytes(overlays.draw(sample.image, word_map.share, window=sample.window))
                typer.echo(f"{drawn} ({word_map.coverage:.0%} covered)")
            images.append(sample.image)
        return images

    def _uses(self, asked: Asked) -> "dict[str, ConceptUse]":
        from perfusion_core.conditioning import ConceptUse

        uses = {}
        for name, file in asked.concepts.items():
            concept = self.base.adapt(file.concept) if asked.given.adapt else file.concept
            self.base.check(concept)
            told = siblings.warning(concept.training, is_measured=concept.curve is not None)
            if told is not None:
                self._warn(f"<{name}>: {told}")
            gate = asked.gates.get(name)
            uses[name] = (
                ConceptUse(concept, beta=gate.beta, tau=gate.tau) if gate else ConceptUse(concept)
            )
        return uses

    def _warn_of_cuts(self, request: "ImageRequest") -> None:
        from perfusion_core.text.tokenization import cut_sentence

        texts = {
            "The prompt": request.prompt,
            "The negative prompt": request.config.negative_prompt,
        }
        for subject, text in texts.items():
            cut = cut_sentence(self.base.tokenizers[0], parse(text), name=subject)
            if cut is not None:
                self._warn(cut)

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            typer.echo(sentence, err=True)
