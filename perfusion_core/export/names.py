"""The names of a concept's files, the same in a zip, on a hub and in downloads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FileNames:
    """The files of the concept `name`."""

    name: str

    @property
    def concept(self) -> str:
        """The concept file."""
        return f"{self.name}.safetensors"

    @property
    def lora(self) -> str:
        """The LoRA."""
        return f"{self.lora_word}.safetensors"

    @property
    def lora_word(self) -> str:
        """What tools call the LoRA that they name by its file."""
        return f"{self.name}.lora"

    @property
    def embedding(self) -> str:
        """The embedding."""
        return f"{self.word}.safetensors"

    @property
    def word(self) -> str:
        """What tools call the embedding that they name by its file."""
        return f"{self.name}.embedding"

    @property
    def zip(self) -> str:
        """All of them, with card and sheet."""
        return f"{self.name}.zip"

    @property
    def card(self) -> str:
        """The card."""
        return "README.md"

    @property
    def sheet(self) -> str:
        """The sheet of images."""
        return "sheet.png"
