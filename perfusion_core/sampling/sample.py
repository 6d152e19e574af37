"""The result of sampling: an image, its seed and its maps."""

from dataclasses import dataclass

from PIL import Image

from perfusion_core.editing.window import Window
from perfusion_core.sampling.attention_maps import WordMap
from perfusion_core.sampling.trajectories import Trajectory


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A finished image, the seed of its noise, and its maps if the request asked for maps.

    Of a masked edit, the maps and `seen` are of the window that the base model saw.
    """

    image: Image.Image
    seed: int
    maps: tuple[WordMap, ...] | None = None
    window: Window | None = None

    @property
    def seen(self) -> Image.Image:
        """The part of the image that shows what the prompt asks for, to be measured."""
        return self.image if self.window is None else self.image.crop(self.window.visible)

    @classmethod
    def of(cls, trajectory: Trajectory, image: Image.Image) -> "Sample":
        """Return the sample of a finished trajectory and its decoded image."""
        maps = None if trajectory.maps is None else trajectory.maps.means()
        return cls(image=image, seed=trajectory.seed, maps=maps, window=trajectory.window)
