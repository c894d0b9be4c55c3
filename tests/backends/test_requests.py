"""A source that is slow to answer is asked for many items at once, in order; nothing here measures time."""

import errno
import io
import ssl
import threading
from http.client import IncompleteRead
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
from PIL import Image

import dalipipe
from dalipipe.backends import Job
from dalipipe.backends.requests import with_items
from dalipipe.errors import DecodeError, ResourceError, SourceError
from dalipipe.recipes import Recipe, ops
from dalipipe.sampling import batched
from dalipipe.sources import SubsetSource

RECIPE = Recipe(name="test", ops=(ops.Resize(size=(8, 8)), ops.ToDtype(scale=True)))
BACKENDS = ["dali-cpu", "dali-cpu-stock", "torchvision"]
PATIENCE_S = 60  # only a fault needs it


def png(number):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (number % 256, 100, 200)).save(buffer, "PNG")
    return buffer.getvalue()


class Store:
    """Encoded images, `before(index)` first; the threads that asked."""

    classes = ("a",)

    def __init__(self, count, before=lambda index: None):
        self.blobs, self.before = [png(number) for number in range(count)], before
        self.labels = np.zeros(count, np.int64)
        self.asked, self.threads = [], set()

    def __len__(self):
        return len(self.blobs)

    def item(self, index):
        self.asked.append(index)
        if threading.current_thread() is not threading.main_thread():  # which looks at the first item, to see its kind
            self.threads.add(threading.current_thread())
            self.before(index)
        return self.blobs[index]


def load(source, backend="torchvision", batch_size=4, **options):
    return dalipipe.DataLoader(source, batch_size, recipe=RECIPE, backend=backend, num_threads=2, **options)


def reds(images):
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_requests_are_under_way_and_answers_come_in_order(backend):
    barrier = threading.Barrier(8)  # lets nobody through before eight are there, and so more than a batch
    with load(Store(32, lambda index: barrier.wait(PATIENCE_S)), backend) as loader:
        for _ in range(2):
            found = [reds(images) for images, _ in loader]
            assert found == [[*range(at, at + 4)] for at in range(0, 32, 4)]


def test_an_answer_that_comes_late_is_waited_for():
    others = threading.Semaphore(0)

    def last_first(index):
        if index == 0:
            for _ in range(11):
                assert others.acquire(timeout=PATIENCE_S)
        else:
            others.release()

    with load(Store(12, last_first)) as loader:
        assert [reds(images) for images, _ in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_store_raises_comes_up_in_its_place_and_is_no_files_fault(backend):
    broken = [True]

    def fail(index):
        if index == 13 and broken[0]:
            raise LookupError("the store is gone")

    with load(Store(24, fail), backend, on_error="skip") as loader:
        found = []
        with pytest.raises(LookupError, match="the store is gone"):
            for images, _ in loader:
                found.append(reds(images))
        assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert loader.bad_files == ()
        broken[0] = False
        assert [red for images, _ in loader for red in reds(images)] == list(range(24))


@pytest.mark.parametrize("backend", ["dali-cpu", "torchvision"])
def test_an_epoch_that_ends_early_asks_no_more_and_its_threads_end(backend):
    source = Store(1000)
    with load(source, backend) as loader:
        for _ in loader:
            break
        for thread in list(source.threads):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        asked = len(source.asked)
        assert asked < 500
        assert len([labels for _, labels in loader]) == 250


def test_what_is_asked_for_ahead_is_bounded_in_bytes():
    source = Store(200)
    source.max_requests, taken = 16, 0
    two = 2 * len(source.blobs[0])
    for batch, _ in with_items(Job(source, RECIPE), "bytes", batched(range(200), 5, epoch=0, drop_last=False), two):
        assert len(source.asked) <= taken + 5 + 16, "of what is not bounded, 32 would be on their way besides"
        taken += len(batch)
    assert sorted(source.asked) == list(range(200))


@pytest.mark.parametrize("backend", ["dali-cpu", "torchvision"])
def test_a_source_may_ask_for_one_request_at_a_time(backend):
    class Alone(Store):
        max_requests = 1
        busy = threading.Lock()

        def item(self, index):
            assert self.busy.acquire(blocking=False), "asked twice at once"
            try:
                return super().item(index)
            finally:
                self.busy.release()

    source = Alone(32)
    with load(SubsetSource(source, range(31, -1, -1)), backend) as loader:
        assert [red for images, _ in loader for red in reds(images)] == list(range(31, -1, -1))
    assert [index for index in source.asked if index != 31] == list(range(30, -1, -1))


@pytest.mark.parametrize("most", [0, -1, 2.5, True, "8"])
def test_a_number_of_requests_that_is_none_is_refused(most):
    source = Store(4)
    source.max_requests = most
    with load(source) as loader, pytest.raises(SourceError, match="Store: max_requests must be a whole number"):
        next(iter(loader))


class Batches(Store):
    """A source that answers batches."""

    def items(self, indices):
        self.asked.append(list(indices))
        return [self.blobs[index] for index in indices]


@pytest.mark.parametrize("backend", ["dali-cpu", "torchvision"])
def test_a_source_may_answer_a_whole_batch(backend):
    source = Batches(10)
    with load(SubsetSource(source, range(9, -1, -1)), backend) as loader:
        assert [red for images, _ in loader for red in reds(images)] == list(range(9, -1, -1))
    assert sorted(asked for asked in source.asked if isinstance(asked, list)) == [[1, 0], [5, 4, 3, 2], [9, 8, 7, 6]]


def test_a_batch_of_another_length_is_refused():
    source = Batches(8)
    source.items = lambda indices: source.blobs[:3]
    with load(source) as loader, pytest.raises(SourceError, match=r"must return one item for each index, got 3 for 4"):
        next(iter(loader))


def test_an_item_that_is_none_is_named():
    source = Store(8)
    source.blobs[5] = None
    with load(source) as loader:
        batches = iter(loader)
        next(batches)
        with pytest.raises(SourceError, match="sample 'sample 5': must be a path, bytes or a uint8 array"):
            next(batches)


@pytest.fixture
def hurried(monkeypatch):
    """Nothing is waited for between tries."""
    monkeypatch.setattr("dalipipe.sources.stores.STORE_PAUSES_S", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("backend", ["dali-cpu", "torchvision"])
def test_a_store_that_fails_for_a_moment_is_asked_again(backend, hurried):
    left = {5: [TimeoutError("slow"), ConnectionResetError(104, "reset")], 9: [OSError(5, "io")]}

    def fail(index):
        if left.get(index):
            raise left[index].pop()

    with load(Store(12, fail), backend, on_error="skip") as loader:
        assert [red for images, _ in loader for red in reds(images)] == list(range(12))
        assert loader.bad_files == ()
        left[5] = [TimeoutError("slow")] * 4
        with pytest.raises(ResourceError, match=r"Store: item 5: the store must answer, got TimeoutError: slow\."):
            list(loader)
        assert loader.bad_files == ()
        assert [red for images, _ in loader for red in reds(images)] == list(range(12))


def own_error(module, name):
    """Return an error of a client's tree, which is no OSError."""
    base = type(name, (Exception,), {"__module__": module})
    return type("Derived", (base,), {})("cut off")


PASSING = [
    ConnectionError("reset by a client that knows no numbers"),
    OSError("a client's own error, without a number"),
    URLError("no route"),
    HTTPError("http://store/5", 503, "slow down", None, None),
    IncompleteRead(b"half"),
    ssl.SSLError("cut"),
    own_error("aiohttp.client_exceptions", "ClientConnectionError"),
    own_error("urllib3.exceptions", "ProtocolError"),
    own_error("botocore.exceptions", "HTTPClientError"),
]
LASTING = [
    PermissionError("403"),
    HTTPError("http://store/5", 403, "forbidden", None, None),
    OSError(errno.EACCES, "denied"),
    OSError(errno.EMFILE, "too many open files"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_breaks_on_a_network_may_pass(error, hurried):
    answers = [error]

    def fail(index):
        if index == 5 and answers:
            raise answers.pop()

    with load(Store(12, fail)) as loader:
        assert [red for images, _ in loader for red in reds(images)] == list(range(12))


@pytest.mark.parametrize("error", LASTING, ids=str)
def test_what_will_not_pass_is_not_asked_again(error, hurried):
    asked = []

    def fail(index):
        if index == 5:
            asked.append(index)
            raise error

    with load(Store(12, fail), on_error="skip") as loader, pytest.raises(ResourceError, match="Store: item 5: the "):
        list(loader)
    assert asked == [5]


def test_an_error_of_the_sources_own_says_what_was_asked_for():
    def fail(index):
        if index == 5:
            raise KeyError("five")

    with load(Store(12, fail), on_error="skip") as loader:
        with pytest.raises(KeyError) as caught:
            list(loader)
        assert caught.value.__notes__ == ["Store: item 5 was asked for."]
        assert loader.bad_files == ()


@pytest.mark.parametrize("whole", [False, True], ids=["item", "items"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_store_does_not_have_is_a_file_that_has_vanished(backend, whole, hurried):
    gone = FileNotFoundError("bucket/0.png"), FileNotFoundError(errno.ENOENT, "No such key")

    class Holes(Batches if whole else Store):
        def item(self, index):
            if index in (0, 6):
                raise gone[index == 6]
            return self.blobs[index]

        def items(self, indices):
            return [self.item(index) for index in indices]

    if not whole:
        del Holes.items
    source = Holes(12)
    with load(source, backend, on_error="skip") as loader:
        assert [red for images, _ in loader for red in reds(images)] == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
        assert [(bad.path, bad.reason) for bad in loader.bad_files] == [
            ("sample 0", "the store doesn't have it: bucket/0.png"),
            ("sample 6", "the store doesn't have it: no such key"),
        ]
    with load(source, backend) as loader, pytest.raises(DecodeError, match=r"'sample 0' \(the store doesn't have it"):
        list(loader)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_item_among_pixels_that_is_none_is_refused(backend):
    source = Store(8)
    source.blobs[:] = [np.full((9, 7, 3), number, np.uint8) for number in range(8)]
    source.blobs[5] = png(5)
    with (
        load(source, backend) as loader,
        pytest.raises(SourceError, match="item 5 must be a uint8 array as the others"),
    ):
        list(loader)


def test_a_cache_asks_as_the_source_allows():
    class Alone(Store):
        max_requests = 1
        busy = threading.Lock()

        def item(self, index):
            assert self.busy.acquire(blocking=False), "asked twice at once"
            try:
                return super().item(index)
            finally:
                self.busy.release()

    barrier = threading.Barrier(8)
    for source in (Alone(16), Store(16, lambda index: barrier.wait(PATIENCE_S))):
        with load(source, cache="ram") as loader:
            assert [red for images, _ in loader for red in reds(images)] == list(range(16))


@pytest.mark.parametrize("backend", ["dali-cpu", "torchvision"])
def test_what_is_read_ahead_does_not_count_as_consumed(backend):
    first, second = (load(Store(40), backend, shuffle=True, seed=1) for _ in range(2))
    with first, second:
        batches = iter(first)
        taken = [red for _ in range(3) for red in reds(next(batches)[0])]
        second.load_state_dict(first.state_dict())
        first.close()  # in the middle of the epoch, which may end
        left = [red for images, _ in batches for red in reds(images)]
        assert [red for images, _ in second for red in reds(images)] == left
        assert sorted(taken + left) == list(range(40))
