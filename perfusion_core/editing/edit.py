"""An edit: the picture that sampling starts from, and the part that is painted anew.

Does not import torch, so that a server without a device can check an edit.
"""

from dataclasses import dataclass, field

from PIL import Image

from perfusion_core.config import EditConfig
from perfusion_core.editing.masks import binary
from perfusion_core.errors import EditError


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """A picture to start from: image to image, or a masked edit if there is a mask.

    `picture` is upright, in sRGB and RGB, of any size. `mask` is grey ("L") and of the picture's
    size; pixels of 128 or more are painted anew, all others keep their values. Raises EditError if
    picture and mask are not like this, or if the mask paints nothing anew.
    """

    picture: Image.Image
    mask: Image.Image | None = None
    config: EditConfig = field(default_factory=EditConfig)

    def __post_init__(self) -> None:
        if self.picture.mode != "RGB":
            raise EditError("The picture of an edit must be RGB: convert it before the edit.")
        if self.mask is None:
            if self.config.keep_background:
                raise EditError("keep_background needs a mask: without one all of it changes.")
            return
        if self.mask.mode != "L":
            raise EditError("The mask of an edit must be grey: convert it before the edit.")
        if self.mask.size != self.picture.size:
            mask, picture = ("{} x {}".format(*image.size) for image in (self.mask, self.picture))
            raise EditError(
                f"The mask has {mask} pixels and the picture {picture}: use a mask of the "
                "picture's size."
            )
        if binary(self.mask).getbbox() is None:
            raise EditError(
                "The mask is empty: paint white what is to be painted anew. Grey counts as white "
                "from 128 on."
            )

    @property
    def denoising_strength(self) -> float:
        """The share of the denoising that is done, (0, 1]; the default depends on the mask."""
        return self.config.strength(masked=self.mask is not None)
