"""What a generation answers: its images, where each word acted in them, and its warnings."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Outbound(BaseModel):
    """What the service answers; new optional fields may appear."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


SignedUrl = Annotated[
    str | None,
    Field(description="The same for 10 to 15 minutes without a key, such as for an `<img>`."),
]


class AttentionMap(Outbound):
    """Where a word of the prompt acted in an image; `url` gives the map over the image, a PNG."""

    word: Annotated[str, Field(examples=["<rex>", "beach"])]
    concept_id: Annotated[str | None, Field(description="Of a placeholder.")]
    coverage: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="The share of the image from which the word gets more than a fifth of "
            "the attention.",
        ),
    ]
    url: str
    signed_url: SignedUrl = None


class Presence(Outbound):
    """Whether a concept of the prompt is to be seen in an image."""

    concept_id: str
    name: str
    score: Annotated[
        float,
        Field(description="The mean cosine to the concept's pictures of the most similar window."),
    ]
    present: Annotated[bool, Field(description="Whether that is enough, by the concept's curve.")]


class Image(Outbound):
    """A generated image; `url` gives the PNG."""

    id: str
    url: str
    signed_url: SignedUrl = None
    seed: int
    width: Annotated[int, Field(description="Pixels.")]
    height: Annotated[int, Field(description="Pixels.")]
    attention_maps: Annotated[
        list[AttentionMap] | None,
        Field(description="In the prompt's order; null: they were not asked for."),
    ]
    presence: Annotated[
        list[Presence] | None,
        Field(description="Of each concept that has a curve; null: nothing could be measured."),
    ]


class NamedConcept(Outbound):
    """A concept, as a warning names it."""

    id: str
    name: str


class JobWarning(Outbound):
    """A problem that does not stop the job; docs/errors.md says what to do about each `type`."""

    type: str
    title: str
    detail: str
    concepts: Annotated[list[NamedConcept], Field(description="The concepts that it is about.")]
