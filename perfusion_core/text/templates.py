"""The prompts that a concept is trained with: `{}` is where its placeholder stands. No torch."""

TEMPLATES = (
    "a photo of a {}",
    "a good photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a picture of a {}",
    "a picture of the {}",
    "an image of a {}",
    "a {}",
    "the {}",
    "a {} in a photo",
    "a photo of my {}",
    "{}",
    "photo of {}",
    "picture of {}",
)
"""The neutral prompts of training (METHOD 5); e_super of a new concept is averaged over them.

The last three are how people write prompts with concepts. If a prompt has few other words, a
background attends mostly to the concept's, so its Values have to be learned there, too.
None says anything that a picture may contradict, such as a size. They may change: a concept file
of format 2 keeps its own e_super.
"""

FORMAT_1_TEMPLATES = (
    "a photo of a {}",
    "a good photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a picture of a {}",
    "a picture of the {}",
    "an image of a {}",
    "a {}",
    "the {}",
    "a {} in a photo",
    "a photo of a small {}",
    "a photo of a large {}",
    "a photo of my {}",
)
"""The training prompts of every concept file of format 1, which does not hold its e_super.

They must never change: another e_super would change the images of those concepts.
"""
