"""`hf`: a data set of the Hugging Face hub, or a folder that `datasets` wrote: saved to disk, or parquet files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL import Image

from rtok.data.decoding import DecodeError, decode, read_image
from rtok.data.folder import existing_root
from rtok.data.source import Ungrouped, in_classes
from rtok.data.splits import chosen_part
from rtok.errors import UserError
from rtok.files import where
from rtok.version import install

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

_TEXT = ("string", "large_string")
_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` writes, for all splits or for one


@dataclass(frozen=True, eq=False)
class Rows(Ungrouped):
    """The rows of a data set; `table` has the column of pictures alone, which it does not decode."""

    table: Any
    column: str
    keys: Sequence[str]
    labels: Sequence[int] | None
    class_names: Sequence[str] | None
    found: str
    containers: Sequence[str]  # the files that the rows are read from
    fingerprint: str = ""  # of rows that are in memory

    def read(self, index: int) -> Image.Image:
        """Decode one picture, from the data set or from the file that it names."""
        stored = self.table[index][self.column]
        name = f"{self.keys[index]} (row {index})"
        if stored is None:
            raise DecodeError(name, "the row has no picture")
        if isinstance(stored, bytes):
            return decode(stored, name)
        if stored["bytes"] is None and stored["path"]:
            return read_image(Path(stored["path"]))
        return decode(stored["bytes"] or b"", name)


def open_hf(config: DataConfig) -> Rows:
    """Open the split of the data set at `data.root`, or of `data.repo` on the hub.

    A picture's key is where it would lie in a folder: SPLIT/CLASS/FILE, without SPLIT where there is one split only,
    and without CLASS where there are no labels. Where pictures have no file names, or two have the same, the
    number of the row takes the place of CLASS/FILE.

    Raises:
        UserError: there is no such data set, split or column, or `datasets` is not installed.
    """
    if find_spec("datasets") is None:
        raise UserError(f"data.name: {config.name} needs datasets, which is not installed: {install('hf')}")
    import datasets

    place = config.repo or str(config.root)
    parts = _load(config)
    part, prefix, note = chosen_part(parts, config, place)
    if part.features is None:
        raise UserError(f"data.streaming: {place} does not say which columns it has before it is read: leave it out.")
    image_column = _image_column(part.features, config, place)
    label_column = _label_column(part.features, config, place)
    if isinstance(part.features[image_column], datasets.Image):
        part = part.cast_column(image_column, datasets.Image(decode=False))
    whole: Iterable[Any] = parts.values()
    if config.streaming:
        part = _first(part, list(filter(None, [image_column, label_column])), config)
        whole = [part]
    labels, names = (None, None) if label_column is None else _classes(part, label_column, whole)
    table = part.select_columns([image_column])
    first = ", the first" if config.streaming else ""
    found = f"{len(part)} images{first} of {place}{in_classes(names)}{note}"
    keys = _keys(prefix, _file_names(table, image_column), labels, names)
    containers = [file["filename"] for file in part.cache_files]
    fingerprint = _digest(table[image_column]) if config.streaming else ""
    return Rows(table, image_column, keys, labels, names, found, containers, fingerprint)


def _first(part: Any, columns: list[str], config: DataConfig) -> Any:
    """Read the first `data.limit` rows into memory, where they can be read in any order."""
    import datasets

    *_, label = columns
    if label != columns[0] and getattr(part.features[label], "dtype", None) in _TEXT:
        raise UserError(
            f"data.label_column: {label} has names, which are numbered over all of the data: leave data.streaming out, "
            "or label_column where no labels are needed."
        )
    features = datasets.Features({name: part.features[name] for name in columns})
    rows = _loaded(config, lambda: list(part.select_columns(columns).take(config.limit)), "Run the command again.")
    return datasets.Dataset.from_list(rows, features=features)


def _digest(stored: Iterable[Any]) -> str:
    digest = sha256()
    for one in stored:
        digest.update(repr(one).encode())
    return digest.hexdigest()


def _load(config: DataConfig) -> dict[str, Any]:
    """Return the splits by their names."""
    import datasets

    if config.repo is not None:
        found = _loaded(
            config,
            lambda: datasets.load_dataset(config.repo, config.subset, streaming=config.streaming),
            _DOWNLOAD.format(config.repo),
        )
    else:
        root = existing_root(config)
        if any((root / name).exists() for name in _SAVED):
            found = _loaded(config, lambda: datasets.load_from_disk(str(root)), "Save it again.")
        elif next(root.rglob("*.parquet"), None):
            found = _loaded(
                config,
                lambda: datasets.load_dataset(str(root), config.subset, streaming=config.streaming),
                "Download it again.",
            )
        else:
            wanted = "what Dataset.save_to_disk wrote, or parquet files"
            raise UserError(f"data.root: {root}{where(root)} has neither {' nor '.join(_SAVED)}: give {wanted}.")
    return dict(found) if isinstance(found, (datasets.DatasetDict, datasets.IterableDatasetDict)) else {"all": found}


_DOWNLOAD = (
    "Without a connection, run `hf download --repo-type dataset {0} --local-dir DIR` where there is one, and set "
    "data.root: DIR instead of data.repo."
)


def _loaded(config: DataConfig, load: Callable[[], Any], remedy: str) -> Any:
    try:
        return load()
    except Exception as error:  # of the network, the file system, pyarrow, the hub's API, ...
        key, value = ("repo", config.repo) if config.repo else ("root", config.root)
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UserError(f"data.{key}: {value} cannot be loaded ({type(error).__name__}: {reason}). {remedy}") from error


def _image_column(features: Any, config: DataConfig, place: str) -> str:
    """Return the column of pictures: encoded, as bytes or with the path of a file."""
    import datasets

    encoded = [
        name
        for name, kind in features.items()
        if isinstance(kind, datasets.Image) or (isinstance(kind, dict) and set(kind) == {"bytes", "path"})
    ]
    binary = [name for name, kind in features.items() if getattr(kind, "dtype", None) in ("binary", "large_binary")]
    found = _named(config.image_column, encoded or binary, features, "data.image_column", place)
    if found is None:
        raise UserError(f"data.image_column: {place} has no column of images; its columns are {', '.join(features)}.")
    if found not in (*encoded, *binary):
        raise UserError(f"data.image_column: {found} of {place} holds no images, but {features[found]}.")
    return found


def _label_column(features: Any, config: DataConfig, place: str) -> str | None:
    import datasets

    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    found = _named(config.label_column, labels, features, "data.label_column", place)
    kind = str(getattr(features.get(found), "dtype", ""))  # that of a ClassLabel is int64
    if found and not kind.startswith("int") and kind not in _TEXT:
        raise UserError(f"data.label_column: {found} of {place} holds no labels, but {features[found]}.")
    return found


def _named(given: str | None, found: Sequence[str], columns: Iterable[str], key: str, place: str) -> str | None:
    """Return the column that the user names, or else the only one of its kind; None where there is none."""
    if given is not None and given not in columns:
        raise UserError(f"{key}: {place} has no column '{given}'; its columns are {', '.join(columns)}.")
    if given is None and len(found) > 1:
        raise UserError(f"{key}: {place} has several such columns: name one of {', '.join(found)}.")
    return given or next(iter(found), None)


def _classes(part: Any, column: str, parts: Iterable[Any]) -> tuple[list[int] | None, list[str] | None]:
    """Return the labels and the names of the classes; None where some rows have no label, as test splits do."""
    kind, values = part.features[column], part[column][:]
    if any(value is None or value == -1 for value in values):
        return None, None
    if kind.dtype in _TEXT:  # a class has the same number in every split
        names = sorted({value for every in parts for value in every[column][:] if value is not None})
        index = {name: label for label, name in enumerate(names)}
        return [index[value] for value in values], names
    return values, list(getattr(kind, "names", None) or map(str, range(max(values, default=0) + 1)))


def _file_names(table: Any, column: str) -> list[str]:
    """Return the pictures' file names, as far as the data set has them, without reading the pictures."""
    import pyarrow
    import pyarrow.compute

    stored = (table.flatten_indices() if table._indices is not None else table).data.column(column)
    if not pyarrow.types.is_struct(stored.type):
        return [""] * len(stored)
    paths = pyarrow.compute.struct_field(stored, "path").to_pylist()
    return [PurePosixPath(path or "").name for path in paths]


def _keys(prefix: str, files: list[str], labels: list[int] | None, names: list[str] | None) -> list[str]:
    if all(files):
        folders = [""] * len(files) if labels is None or names is None else [f"{names[label]}/" for label in labels]
        keys = [f"{prefix}{folder}{file}" for folder, file in zip(folders, files, strict=True)]
        if len(set(keys)) == len(keys):
            return keys
    return [f"{prefix}{row:08d}" for row in range(len(files))]
