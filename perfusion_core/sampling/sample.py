"""The result of sampling: an image, its seed and its maps."""

from dataclasses import dataclass

from PIL import Image

from perfusion_core.errors import ImageDiverged
from perfusion_core.sampling.attention_maps import WordMap
from perfusion_core.sampling.sampler import Trajectory


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A finished image, the seed of its noise, and its maps if the request asked for maps."""

    image: Image.Image
    seed: int
    maps: tuple[WordMap, ...] | None = None

    @classmethod
    def of(cls, trajectory: Trajectory, image: Image.Image) -> "Sample":
        """Return a finished trajectory's sample; raises ImageDiverged if latents are not finite."""
        if not bool(trajectory.latents.isfinite().all()):
            raise ImageDiverged(
                f"The image of seed {trajectory.seed} diverged: a concept or the guidance is too "
                "strong. Lower the strengths or guidance_scale."
            )
        maps = None if trajectory.maps is None else trajectory.maps.means()
        return cls(image=image, seed=trajectory.seed, maps=maps)
