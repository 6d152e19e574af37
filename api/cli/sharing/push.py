"""`perfusion push`: a concept with everything that belongs to it into a repository of a hub."""

import re
from pathlib import Path
from typing import Annotated

import typer

from api.cli.base_model import BaseModelOption, DeviceOption
from api.cli.errors import CommandError
from api.cli.sharing.export import LicenseOption, make_files, read_concept_file
from perfusion_core.export.card import DEFAULT_LICENSE

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def push(
    file: Annotated[Path, typer.Argument(help="A concept file, or a zip with one.")],
    repository: Annotated[
        str, typer.Argument(help="OWNER/REPO on the hub; it is made if it is not there.")
    ],
    *,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    license_: LicenseOption = DEFAULT_LICENSE,
    base_model: BaseModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Share a concept on a hub: concept file, LoRA, embedding, card and sheet, as one commit.

    The token is that of `hf auth login`, or HF_TOKEN.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise CommandError(f"{repository} is no repository of a hub: write OWNER/REPO.")
    data, concept = read_concept_file(file)

    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise CommandError(
            "There is no token for the hub. Make one with the right to write, then run "
            "`hf auth login`, or set HF_TOKEN."
        )
    files = make_files(
        data, concept, dtype="float16", license=license_, base_model=base_model, device=device
    )
    url = _upload(files, repository, private=private, title=f"Share {concept.placeholder}")
    typer.echo(f"{url}: {', '.join(files)}.")


def _upload(files: dict[str, bytes], repository: str, *, private: bool, title: str) -> str:
    """Commit the files; return the repository's address, or raise CommandError."""
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    operations = [CommitOperationAdd(name, data) for name, data in files.items()]
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(repository, operations, commit_message=title)
    except HfHubHTTPError as error:
        raise CommandError(_told(error, repository)) from error
    except (httpx2.HTTPError, OSError) as error:
        raise CommandError(
            f"The hub {api.endpoint} cannot be reached, and nothing was shared: check the network "
            "and HF_ENDPOINT, then try again."
        ) from error
    return str(url)


def _told(error: Exception, repository: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return (
            "The hub does not accept the token: make another one with the right to write, then "
            "run `hf auth login`, or set HF_TOKEN."
        )
    if status in (403, 404):
        return (
            f"The token may not write to {repository}: take a repository of your own account or "
            "organisation, and a token with the right to write."
        )
    return f"The hub refused the upload ({status}): try again later."
