"""The JSON of a concept's operating curve, as OpenAPI shows it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Verdict


class _Outbound(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class Similarities(_Outbound):
    """Mean cosines of images by the evaluator; compare them with each other alone."""

    image_similarity: Annotated[float, Field(description="To the training pictures.")]
    text_similarity: Annotated[
        float, Field(description="To the prompt with the superclass in the concept's place.")
    ]


class CurvePoint(Similarities):
    """What one strength gives."""

    strength: float
    beta: Annotated[
        float, Field(description="The same as a bias: `concepts` takes either, for these images.")
    ]
    thumbnail_url: Annotated[str, Field(description="A small WebP image at this strength.")]


class Curve(_Outbound):
    """How a concept's images change with its strength, in scenes that it was not trained on."""

    concept_id: str
    evaluator: Annotated[str, Field(description="The CLIP model whose similarities these are.")]
    evaluator_fingerprint: str
    prompts: list[str]
    superclass: Annotated[Similarities, Field(description="The plain superclass, as the floor.")]
    ceiling: Annotated[
        float | None,
        Field(description="The training pictures among each other; null where there is only one."),
    ]
    points: Annotated[
        list[CurvePoint],
        Field(description="By rising strength, which is falling beta: 0.9 to 0.3 in steps of 0.1."),
    ]
    recommended_strength: Annotated[
        float, Field(description="Where gain over the superclass and kept text balance best.")
    ]
    verdict: Verdict
