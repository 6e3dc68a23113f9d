"""Files appear whole or not at all; JSON that cannot be used is refused with a sentence."""

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.errors import InputError
from attacks.files import read_json, write_atomically, write_json

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(content=st.dictionaries(st.text(), plain))
def test_what_is_written_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "deep" / "result.json"
    write_json(path, content)
    assert read_json(path) == json.loads(json.dumps(content))


def test_a_failure_midway_keeps_the_old_file_and_leaves_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_result_has_the_mode_of_any_new_file(tmp_path):
    write_atomically(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_writing_leaves_the_umask_of_the_whole_process_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail(f"the umask was set to {mask}"))
    write_atomically(tmp_path / "ours", "x")
    assert (tmp_path / "ours").read_text() == "x"


def test_values_that_json_lacks_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "result.json", {"rate": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "There is no file"), (b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"), (b"[1]", "holds a JSON list")],
)
def test_what_cannot_be_read_is_refused(tmp_path, content, sentence):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_json(path)


def test_deeply_nested_json_is_refused_and_a_folder_is_no_file(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b'{"a":' * 200_000)
    with pytest.raises(InputError, match="is not JSON"):
        read_json(path)
    with pytest.raises(InputError, match="There is no file"):
        read_json(tmp_path)
