"""Paths in little memory are the paths that they were made of."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalipipe.sources.paths import Paths, Samples

PARTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.just("\udcff"), max_size=12)


@given(PARTS, PARTS, st.data())
def test_they_are_what_they_were_made_of(some, others, data):
    paths = Paths.joined("/a/", [Paths.of("/a/", ["/a/" + part for part in each]) for each in (some, others)])
    wanted = ["/a/" + part for part in (*some, *others)]
    assert list(paths) == wanted and paths == wanted and len(paths) == len(wanted)
    assert pickle.loads(pickle.dumps(paths)) == wanted
    if wanted:
        chosen = data.draw(st.lists(st.integers(0, len(wanted) - 1), max_size=8))
        keys, lengths = paths.joined_parts(np.array(chosen, np.int64))
        parts = [wanted[at][3:].encode("utf-8", "surrogateescape") for at in chosen]
        assert keys == b"".join(parts) and lengths.tolist() == list(map(len, parts))
        assert paths[-1] == wanted[-1] and paths[1:] == wanted[1:]
    with pytest.raises(IndexError):
        paths[len(wanted)]


def test_samples_are_pairs():
    samples = Samples(Paths.of("", ["x", "y"]), np.array([3, 4]))
    assert samples == [("x", 3), ("y", 4)] and samples[1] == ("y", 4) and samples[:1] == [("x", 3)]
    assert samples != [("x", 3)] and repr(samples) == "[('x', 3), ('y', 4)]" and ("y", 4) in samples


def test_they_take_little_memory():
    paths = Paths.of("/photos/", [f"/photos/n0144/n0144_{number:05d}.JPEG" for number in range(1000)])
    assert len(pickle.dumps(paths)) < 1000 * (8 + len("n0144/n0144_00000.JPEG")) + 1000
