"""The prompts that train a concept; `{}` marks the placeholder. Does not import torch."""

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
"""The neutral prompts of training (METHOD 5). The e_super of a new concept is a mean over these
prompts.

The last three prompts are typical of people's prompts with concepts. If a prompt has few other
words, a background attends mostly to the concept's word, so the concept's Values must be trained on
such prompts, too. No prompt states a fact that a picture may contradict, such as a size. The
prompts may change in a later release, because a concept file of format 2 contains its own e_super.
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
"""The training prompts of every concept file of format 1, which does not contain its e_super.

These prompts must never change: another e_super would change the images of these concepts.
"""
