"""Upload a folder to a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from rtok.errors import UserError
from rtok.models.locations import SHORT, reason
from rtok.version import __version__


def require_login() -> None:
    """Raise a UserError unless there is a token for the hub."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be uploaded: --dry-run writes the folder alone.")
    if get_token() is None:
        login = "run `hf auth login`, or set HF_TOKEN to a token that may write"
        raise UserError(f"you are not logged in to the Hugging Face hub: {login}.")


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Create the repository if it is not there, upload the folder in one commit, and return the address.

    Raises:
        UserError: the hub refuses it or cannot be reached, or a private repository is wanted and a public one is there.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="rtok", library_version=__version__)
    try:
        url = str(api.create_repo(repository, private=private or None, exist_ok=True))
        if private and not api.model_info(repository).private:
            raise UserError(f"{SHORT}{repository} is there already and is public: name another repository.")
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"rtok push, {__version__}")
    except UserError:
        raise
    except Exception as error:  # uploads fail in many ways
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = " Your token may not write there: `hf auth login` with another." if status in (401, 403) else ""
        what = f"{type(error).__name__}: {reason(error)}"
        raise UserError(f"{SHORT}{repository}: the hub did not take it ({what}).{hint}") from error
    return url
