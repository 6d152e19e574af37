"""The forms of uploads in OpenAPI: the framework cannot see forms that are read by hand."""

from typing import Any, Final

from perfusion_core.text.prompt import NAME_PATTERN
from service.options import TrainingOptions
from service.pictures.uploads import MAX_PICTURES
from service.webhooks.requests import Webhook


def multipart(properties: dict[str, Any], required: list[str], **encoding: str) -> dict[str, Any]:
    """Return a multipart request body for OpenAPI."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": properties,
                        "required": required,
                        "additionalProperties": False,
                    },
                    "encoding": {name: {"contentType": kind} for name, kind in encoding.items()},
                }
            },
        }
    }


_FILE: Final = {"type": "string", "format": "binary"}
_NAME: Final = {
    "type": "string",
    "pattern": f"^{NAME_PATTERN}$",
    "description": "`<name>` will be its placeholder.",
    "example": "rex",
}

_PICTURES: Final = {
    "images": {
        "type": "array",
        "items": _FILE,
        "minItems": 1,
        "maxItems": MAX_PICTURES,
        "description": "JPEG, PNG, WebP, or HEIC where it is installed; alpha serves as a mask.",
    },
    "masks": {
        "type": "array",
        "items": _FILE,
        "maxItems": MAX_PICTURES,
        "description": "As many as images, in the same order and sizes; white is the subject.",
    },
}
_SUPERCLASS: Final = {
    "type": "string",
    "description": "What it is, in 1 to 3 words.",
    "example": "teddy bear",
}
_CROP: Final = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 4,
    "maxItems": 4,
}
_PICTURE_TYPES: Final = dict.fromkeys(_PICTURES, "image/png, image/jpeg, image/webp")

CONCEPT_FORM: Final = multipart(
    {
        **_PICTURES,
        "crops": {
            # A text, because generated clients would send a list as one part for each number.
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "array",
                "items": {"anyOf": [_CROP, {"type": "null"}]},
                "maxItems": MAX_PICTURES,
            },
            "description": "As JSON, as many as images: what the training sees of each picture, "
            "`[x, y, width, height]` in pixels of the upright picture. Null: the training chooses.",
        },
        "name": _NAME,
        "superclass": _SUPERCLASS,
        "training": TrainingOptions.model_json_schema(),
        "webhook": Webhook.model_json_schema(),
    },
    ["images", "name", "superclass"],
    **_PICTURE_TYPES,
    crops="application/json",
    training="application/json",
    webhook="application/json",
)
PICTURES_FORM: Final = multipart(
    {**_PICTURES, "superclass": _SUPERCLASS}, ["images"], **_PICTURE_TYPES
)
IMPORT_FORM: Final = multipart(
    {
        "file": {**_FILE, "description": "A concept's safetensors file."},
        "name": {**_NAME, "description": "Instead of the name in the file."},
        "adapt": {
            "type": "boolean",
            "default": False,
            "description": "Whether the file may be of a sibling of the served base model: a base "
            "model with the same text encoders and layer widths.",
        },
    },
    ["file"],
)
EDIT_FORM: Final = multipart(
    {
        "request": {"$ref": "#/components/schemas/GenerateRequest"},
        "image": {
            **_FILE,
            "description": "Start from this picture: JPEG, PNG, WebP, or HEIC where it is "
            "installed. Transparent pixels are laid on white. Not with `image_id`.",
        },
        "mask_image": {
            **_FILE,
            "description": "As large as the picture: white, that is grey from 128 on, is painted "
            "anew, and black stays to the pixel. Not with `mask`.",
        },
    },
    ["request"],
    request="application/json",
    image="image/png, image/jpeg, image/webp",
    mask_image="image/png, image/jpeg, image/webp",
)
