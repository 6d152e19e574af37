"""The prompts of a request for images: text that is parsed, and checked against each other."""

from perfusion_core.errors import PromptError
from perfusion_core.text import prompt as prompts
from service.errors import invalid
from service.generations.requests import MAX_CONCEPTS
from service.validation import check_text


def parse(text: str, *, pointer: str = "/prompt") -> prompts.Prompt:
    """Return a parsed prompt; raise Invalid if a placeholder cannot be used as written."""
    try:
        prompt = prompts.parse(text)
    except PromptError as error:
        raise invalid(pointer, str(error), slug="prompt") from None
    if len(prompt.names) > MAX_CONCEPTS:
        raise invalid(pointer, f"A prompt may name {MAX_CONCEPTS} concepts at most.")
    return prompt


def negative_prompt(text: str, *, prompt: prompts.Prompt) -> str:
    """Return the negative prompt; a concept in it must be in the prompt too."""
    pointer = "/negative_prompt"
    text = check_text(text, pointer=pointer)
    parsed = parse(text, pointer=pointer)
    elsewhere = [name for name in parsed.names if name not in prompt.names]
    if elsewhere:
        raise invalid(
            pointer,
            f"The prompt does not mention <{elsewhere[0]}>. Put it there, or take the brackets "
            "away here.",
            slug="unknown-placeholder",
        )
    if parsed.strengths:
        name = next(iter(parsed.strengths))
        raise invalid(
            pointer,
            f"A concept has one gate: write the strength of <{name}> in the prompt, and here only "
            f"<{name}>.",
            slug="prompt",
        )
    return text
