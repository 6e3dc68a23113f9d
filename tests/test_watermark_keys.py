"""The key: its file, its secrecy, and streams that are fixed for ever and uniform."""

import errno
import hashlib
import hmac
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from attacks.errors import InputError
from watermark import OwnerKey
from watermark.keys import encode

KEY = OwnerKey(bytes(range(32)))
part = st.one_of(st.text(max_size=4), st.binary(max_size=4), st.integers(-300, 300))


def test_known_answers():
    assert KEY.commitment == "7d5171cf8881923c8cc5849c3d7c6a167fc7d9aa18ed383e793cb49fb1a00a13"
    assert KEY.stream("a", b"b", 3).read(40).hex() == (
        "fefcd6863723ce625080b1a761ef0d585266c5d14ab5c2cdb4b14f410ecfd27e373bb627002b2491"
    )
    assert KEY.stream("a").integers(1000, 6).tolist() == [732, 151, 921, 856, 265, 123]
    assert KEY.stream("big").integers(2**63, 2).tolist() == [3751116493148826095, 5036613789268083587]


def test_derivation_is_hmac_over_length_prefixed_parts():
    def mac(key, message):
        return hmac.new(key, message, hashlib.sha256).digest()

    def field(kind, raw):
        return kind + len(raw).to_bytes(8, "big") + raw

    domain = field(b"b", b"repromark/watermark/1")
    seed = mac(bytes(range(32)), domain + field(b"s", b"derive") + field(b"s", b"a") + field(b"i", b"7"))
    assert KEY.derive("a", 7) == seed
    stream = mac(seed, domain + field(b"s", b"stream"))
    blocks = [mac(stream, counter.to_bytes(8, "big")) for counter in range(2)]
    assert KEY.stream("a", 7).read(50) == b"".join(blocks)[:50]


@given(first=st.lists(part, max_size=3), second=st.lists(part, max_size=3))
def test_different_contexts_never_share_an_encoding(first, second):
    assert (encode(*first) == encode(*second)) == (first == second)


@given(context=st.binary(min_size=1, max_size=16), where=st.integers(0, 31), bit=st.integers(0, 7), data=st.data())
def test_every_bit_of_key_and_context_matters(context, where, bit, data):
    secret = bytearray(range(32))
    secret[where] ^= 1 << bit
    other = bytearray(context)
    other[data.draw(st.integers(0, len(context) - 1))] ^= 1 << bit
    streams = [KEY.stream(context), OwnerKey(bytes(secret)).stream(context), KEY.stream(bytes(other))]
    assert len({stream.read(32) for stream in streams}) == 3


@given(pieces=st.lists(st.integers(0, 70), max_size=6))
def test_reading_in_pieces_gives_what_reading_at_once_gives(pieces):
    stream = KEY.stream("pieces")
    assert b"".join(stream.read(n) for n in pieces) == KEY.stream("pieces").read(sum(pieces))


@given(bound=st.one_of(st.integers(1, 300), st.integers(2**62, 2**63)), pieces=st.lists(st.integers(0, 40), max_size=4))
@settings(deadline=None)
def test_integers_stay_in_range_and_do_not_depend_on_how_they_are_read(bound, pieces):
    stream = KEY.stream("range", bound)
    drawn = np.concatenate([np.empty(0, np.int64), *(stream.integers(bound, n) for n in pieces)])
    assert drawn.dtype == np.int64 and ((drawn >= 0) & (drawn < bound)).all()
    assert np.array_equal(drawn, KEY.stream("range", bound).integers(bound, sum(pieces)))


@pytest.mark.parametrize("bound", [2, 3, 10, 100, 1000])
def test_integers_are_uniform(bound):
    counts = np.bincount(KEY.stream("uniform").integers(bound, 100 * bound), minlength=bound)
    assert chisquare(counts).pvalue > 1e-3


def test_words_beyond_the_last_full_multiple_are_rejected():
    bound = 3 * 2**61  # a third of all words lies beyond 2 * bound; plain modulo would favour the low half
    drawn = KEY.stream("reject").integers(bound, 6000)
    assert chisquare(np.bincount(drawn // 2**61, minlength=3)).pvalue > 1e-3
    words = np.frombuffer(KEY.stream("reject").read(8 * 20), ">u8")
    kept = [int(word) % bound for word in words.tolist() if word < 2 * bound]
    assert len(kept) < 20 and drawn[: len(kept)].tolist() == kept


@pytest.mark.parametrize("bound", [-1, 0, 2**63 + 1])
def test_bad_ranges_are_refused(bound):
    with pytest.raises(InputError, match="bound"):
        KEY.stream("x").integers(bound, 1)


def test_generated_keys_differ_and_decoys_are_stable():
    assert OwnerKey.generate() != OwnerKey.generate()
    assert KEY.decoy(0) == KEY.decoy(0) != KEY.decoy(1)
    assert KEY not in (KEY.decoy(0), KEY.decoy(1))


def test_nothing_printed_shows_the_secret():
    secret = bytes(range(32))
    shown = f"{KEY!r} {KEY} {KEY.commitment} {[KEY]}"
    assert secret.hex() not in shown and str(secret) not in shown and hashlib.sha256(secret).hexdigest() not in shown


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(33), "0" * 32])
def test_only_32_bytes_are_a_key(secret):
    with pytest.raises(InputError, match="exactly 32 bytes"):
        OwnerKey(secret)


def test_a_saved_key_is_private_and_comes_back(tmp_path):
    path = tmp_path / "owner.key"
    old = os.umask(0)
    try:
        KEY.save(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert OwnerKey.load(path) == KEY
    assert [entry.name for entry in tmp_path.iterdir()] == ["owner.key"]


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_key_is_never_written_over_anything(tmp_path, kind):
    path = tmp_path / "owner.key"
    path.write_text("precious") if kind == "file" else path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="never overwritten"):
        KEY.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["owner.key"]
    assert kind != "file" or path.read_text() == "precious"


def test_a_key_needs_no_hard_links_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    KEY.save(tmp_path / "owner.key")
    assert OwnerKey.load(tmp_path / "owner.key") == KEY
    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(OSError, match="not permitted"):
        KEY.save(tmp_path / "other.key")
    assert [entry.name for entry in tmp_path.iterdir()] == ["owner.key"]
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(InputError, match="cannot be written"):
        KEY.save(tmp_path / "other.key")


def test_git_passes_keys_over():
    assert "*.key" in (Path(__file__).parent.parent / ".gitignore").read_text().splitlines()


def test_missing_folders_and_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        KEY.save(tmp_path / "absent" / "owner.key")
    with pytest.raises(InputError, match="no key file"):
        OwnerKey.load(tmp_path / "absent.key")


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / "owner.key"
    KEY.save(path)
    path.chmod(mode)
    with pytest.raises(InputError, match="chmod 600"):
        OwnerKey.load(path)


def _changed(**changes):
    good = {
        "format": "repromark-owner-key",
        "version": 1,
        "secret": bytes(range(32)).hex(),
        "commitment": KEY.commitment,
    }
    return json.dumps(good | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 4000,
        b"[]",
        b"{}",
        _changed(version=2),
        _changed(format="x"),
        _changed(secret=bytes(range(1, 33)).hex()),
        _changed(secret="00"),
        _changed(secret=5),
        _changed()[:-10],
    ],
)
def test_a_malformed_file_is_refused_without_showing_it(tmp_path, content):
    path = tmp_path / "owner.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InputError, match="not a whole key file") as caught:
        OwnerKey.load(path)
    assert caught.value.__cause__ is None and bytes(range(32)).hex() not in str(caught.value)
