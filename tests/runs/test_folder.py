"""Run folders: claims, locks, journals, atomic files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from rtok.config.defenses import DEFENSES
from rtok.errors import UserError
from rtok.files import atomic_path, write_atomic
from rtok.runs.folder import RunFolder
from rtok.runs.journal import Journal
from rtok.runs.record import RunRecord

# Texts that YAML could mistake for a number or for a variable.
SETTINGS = {"seed": 0, "train": {"steps": 3}, "root": "${HOME}/1e-3", "name": "1e-3", "out": "somewhere"}


def started(path: Path, **flags: bool) -> RunFolder:
    folder = RunFolder(path, SETTINGS, **flags)  # type: ignore[arg-type]
    folder.start()
    return folder


def test_looking_writes_nothing(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_needs_a_flag(tmp_path: Path) -> None:
    started(tmp_path / "run").close()
    with pytest.raises(UserError, match="already holds a run: continue it with --resume"):
        RunFolder(tmp_path / "run", SETTINGS)
    assert RunFolder(tmp_path / "run", SETTINGS, resume=True).resuming
    RunFolder(tmp_path / "run", SETTINGS, overwrite=True)


def test_overwrite_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    started(tmp_path).close()
    for name in ("metrics.jsonl", "rtokens-10.safetensors", "lora-seed1.safetensors", "notes.txt"):
        (tmp_path / name).write_text("x")
    started(tmp_path, overwrite=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "notes.txt", "state"]


@pytest.mark.usefixtures("forgotten")
def test_overwrite_removes_defenses_of_every_registered_kind(tmp_path: Path) -> None:
    """One that stayed until the new run ends could be evaluated in its place."""

    class Shift:
        stem = "shift"

    DEFENSES.add("shift", Shift)
    started(tmp_path).close()
    stems = [entry.load().stem for entry in DEFENSES.entries()]
    for stem in stems:
        (tmp_path / f"{stem}.safetensors").write_text("x")
    assert "shift" in stems and len(stems) > 3
    started(tmp_path, overwrite=True).close()
    assert not list(tmp_path.glob("*.safetensors"))


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UserError, match="holds no run"):
            RunFolder(tmp_path, SETTINGS, **flags)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex", SETTINGS)


def test_resume_wants_the_same_settings(tmp_path: Path) -> None:
    started(tmp_path).close()
    other = {**SETTINGS, "train": {"steps": 4}, "out": "elsewhere"}
    with pytest.raises(UserError, match=r"train\.steps \(3 then, 4 now\)") as caught:
        RunFolder(tmp_path, other, resume=True)
    assert "elsewhere" not in str(caught.value)  # where a run lies is not what it is


def test_a_radius_in_either_spelling_is_the_same_setting(tmp_path: Path) -> None:
    now = {"curve": [8 / 255], "attack": {"eps": 8 / 255}}
    folder = RunFolder(tmp_path, now)
    folder.start()
    folder.close()
    (tmp_path / "config.yaml").write_text("curve: [8/255]\nattack: {eps: 8/255}\n")
    RunFolder(tmp_path, now, resume=True).close()
    with pytest.raises(UserError, match=r"attack\.eps"):
        RunFolder(tmp_path, {**now, "attack": {"eps": 4 / 255}}, resume=True)


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    first = started(tmp_path)
    with pytest.raises(UserError, match="another run is writing"):
        started(tmp_path, resume=True)
    first.close()
    started(tmp_path, resume=True).close()


def test_json_records_hold_the_settings_and_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, SETTINGS, record="attack.json")
    folder.start()
    folder.close()
    assert not folder.finished()
    again = RunFolder(tmp_path, SETTINGS, record="attack.json", resume=True)
    RunRecord(again, ["rtok", "attack"], {"type": "cpu"}, {}).write(finished=True, images=3)
    assert again.finished()
    content = json.loads((tmp_path / "attack.json").read_text())
    assert content["config"] == SETTINGS and content["images"] == 3 and content["versions"]["rtok"]


def test_seconds_add_up_over_resumptions(tmp_path: Path) -> None:
    started(tmp_path).close()
    (tmp_path / "run.json").write_text(json.dumps({"seconds": 100.0}))
    folder = RunFolder(tmp_path, SETTINGS, resume=True)
    RunRecord(folder, ["rtok"], {}, {}).write(finished=True)
    assert 100.0 <= json.loads((tmp_path / "run.json").read_text())["seconds"] < 110


def test_a_torn_line_is_mended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append([{"step": 1}, {"step": 2}])
    with journal.path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert journal.rows() == [{"step": 1}, {"step": 2}]
    journal.append([{"step": 3}])
    assert journal.rows() == [{"step": 1}, {"step": 2}, {"step": 3}]
    journal.keep(lambda row: row["step"] < 3)
    assert journal.path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_line_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append([{"text": "x" * 70_000}, {"step": 2}])
    whole = journal.path.read_bytes()
    for end in (1, 65_000, 70_011, 70_012, 70_013, len(whole) - 1, len(whole)):
        journal.path.write_bytes(whole[:end])
        assert len(journal.rows()) == whole[:end].count(b"\n")
        assert journal.path.read_bytes() == whole[: whole[:end].rfind(b"\n") + 1]


def test_rows_are_read_in_the_order_of_their_images(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "images.jsonl")
    assert len(journal.ordered(["a"])) == 0 and list(journal.ordered(["a"])) == []
    journal.append([{"image": image, "value": "ä" * number} for number, image in enumerate("cab")])
    found = journal.ordered(["a", "b", "c", "d"])
    assert len(found) == 3
    for _ in range(2):
        assert [(row["image"], len(row["value"])) for row in found] == [("a", 1), ("b", 2), ("c", 0)]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_atomic(path, "before")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write to"):
        started(tmp_path / "file" / "run")


def test_what_could_not_be_begun_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("rtok.runs.folder.write_atomic", full)
        with pytest.raises(UserError, match=r"cannot write to .*: No space left on device"):
            started(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    started(tmp_path / "run").close()


def test_a_full_disk_says_how_to_go_on(tmp_path: Path) -> None:
    folder = started(tmp_path / "run")
    with pytest.raises(UserError, match=r"No space left on device.*--resume"), folder.running():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    started(tmp_path / "run", resume=True).close()  # the lock is free again


def test_a_replacement_that_was_killed_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / ".rtok.lock").touch()  # left by the kill, as the old run's pictures are
    (tmp_path / "summary.png").write_text("old")
    for flags in ({}, {"resume": True}):
        with pytest.raises(UserError, match="go on with --overwrite"):
            RunFolder(tmp_path, SETTINGS, **flags)  # type: ignore[arg-type]
    started(tmp_path, overwrite=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "state"]


def test_a_run_killed_at_its_very_beginning_starts_afresh(tmp_path: Path) -> None:
    (tmp_path / ".rtok.lock").touch()
    (tmp_path / "state").mkdir()
    (tmp_path / ".config.17.tmp.yaml").write_text("half")
    started(tmp_path, resume=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "state"]


def test_the_users_config_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {}")
    (tmp_path / "picture.png").write_text("mine")
    with pytest.raises(UserError, match="holds no run"):
        RunFolder(tmp_path, SETTINGS, overwrite=True)


def test_a_run_that_came_in_between_is_not_overwritten(tmp_path: Path) -> None:
    looked = RunFolder(tmp_path / "run", SETTINGS)
    started(tmp_path / "run").close()
    with pytest.raises(UserError, match="already holds a run"):
        looked.start()
