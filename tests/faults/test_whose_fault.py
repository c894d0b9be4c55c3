"""An error belongs to what caused it: only what is said of the bytes of a file counts against that file."""

import errno
import os
import resource
import socket

import pytest
import torch
from nvidia.dali.plugin.pytorch import DALIGenericIterator
from PIL import Image

import dalipipe
from dalipipe.backends import with_cache
from dalipipe.backends.blame import Fault, fault_of
from dalipipe.errors import BackendError, DecodeError, ResourceError
from dalipipe.inspection import inspect
from dalipipe.recipes import Recipe, ops
from dalipipe.sources import FolderSource, find_shared
from dalipipe.sources.reading import read_file
from tests.faults.cases import encode

RECIPE = Recipe(name="small", ops=(ops.Resize(size=(7, 5)),))
COUNT, BATCH_SIZE = 10, 4


@pytest.fixture
def folder(tmp_path):
    for number in range(COUNT):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(seed=number))
    return tmp_path / "photos"


def make(folder, backend="torchvision", **options):
    options = {"batch_size": BATCH_SIZE, "on_error": "skip", "num_threads": 1, "prefetch": 1, "seed": 1, **options}
    return dalipipe.DataLoader(folder, recipe=RECIPE, backend=backend, **options)


def delivered(loader):
    return sum(len(labels) for _, labels in loader)


def text_of(operator, said, device="CPU"):
    """An error as DALI writes it."""
    return (
        f"Critical error in pipeline:\nError in {device} operator `nvidia.dali.fn.{operator}`,\nwhich was used in the "
        f"pipeline definition with the following traceback:\n\n  File 'dali.py', line 1\n\nencountered:\n\n{said}\n"
        "C++ context: [/opt/dali/x.cc:50] \nCurrent pipeline object is no longer valid."
    )


# What DALI says


@pytest.mark.parametrize(
    ("operator", "said", "fault"),
    [
        ("peek_image_shape", "Unrecognized image format. Supported formats are: JPEG, PNG", Fault.BYTES),
        ("peek_image_shape", 'Assert on "png" failed', Fault.BYTES),
        (
            "decoders.image",
            'Assert on "decoded_image.data != nullptr" failed: Unsupported image type.. File: ',
            Fault.BYTES,
        ),
        (
            "decoders.image_slice",
            'Assert on "cinfo.output_height == cinfo.scanline" failed. File: ',
            Fault.BYTES,
        ),
        ("decoders.image_slice", "libtiff call failed with code -1: TIFFReadScanline(...). File: ", Fault.BYTES),
        ("decoders.image", "Cannot decode it. File: /data/cuda driver/nvml out of memory.jpg", Fault.BYTES),
        ("decoders.image", 'NVJPEG error "3" : nvJPEG error (3): Cannot parse the JPEG stream.', Fault.BYTES),
        ("decoders.image", 'NVJPEG error "10" : nvJPEG error (10): Bitstream input data incomplete', Fault.BYTES),
        ("decoders.image", 'NVJPEG error "5" : nvJPEG error (5): Error during the memory allocation.', Fault.RESOURCE),
        ("decoders.image", 'NVJPEG error "6" : NVJPEG_STATUS_EXECUTION_FAILED', Fault.BACKEND),
        ("decoders.image", 'NVJPEG error "8" : nvJPEG error (8): Internal nvJPEG error', Fault.BACKEND),
        (
            "decoders.image",
            "CUDA runtime API error cudaErrorIllegalAddress (700)",
            Fault.BACKEND,
        ),
        ("decoders.image", "CUDA driver API error CUDA_ERROR_LAUNCH_FAILED (719)", Fault.BACKEND),
        ("decoders.image", "CUDA driver API error CUDA_ERROR_OUT_OF_MEMORY (2):\nout of memory", Fault.RESOURCE),
        ("decoders.image", "nvml error (999): A nvml internal driver error occurred", Fault.BACKEND),
        ("decoders.image", "std::bad_alloc", Fault.RESOURCE),
        ("decoders.image", "Failed to allocate 123456 bytes", Fault.RESOURCE),
        ("peek_image_shape", "std::bad_alloc", Fault.RESOURCE),
        ("io.file.read", 'Assert on "fp_ != nullptr" failed: Could not open file /data/cuda/driver.jpg', Fault.READING),
        ("io.file.read", "std::bad_alloc", Fault.RESOURCE),
        ("resize", "std::bad_alloc", Fault.RESOURCE),
        ("resize", "Assert on anything failed", Fault.BACKEND),
        ("experimental.numba_function", "something else", Fault.BACKEND),
        ("external_source", "Too many open files", Fault.RESOURCE),
    ],
)
def test_what_dali_says_is_taken_for_what_it_speaks_of(operator, said, fault):
    assert fault_of(text_of(operator, said)) is fault


def test_what_names_no_operator_is_no_file_s():
    assert fault_of("Critical error in pipeline:\nencountered:\n\nCUDA runtime API error (700)") is Fault.BACKEND
    assert fault_of("what nobody has foreseen") is Fault.BACKEND


class Broken:
    """Makes DALI's iterator raise at the given calls, and gives batches at the others."""

    def __init__(self, monkeypatch, text, at):
        self.text, self.at, self.calls = text, at, 0
        self.real = DALIGenericIterator.__next__
        monkeypatch.setattr(DALIGenericIterator, "__next__", lambda iterator: self.next(iterator))

    def next(self, iterator):
        self.calls += 1
        if self.calls - 1 in self.at:
            self.real(iterator)
            raise RuntimeError(self.text)
        return self.real(iterator)


SYSTEMS = {
    "CUDA": (text_of("decoders.image", "CUDA runtime API error cudaErrorIllegalAddress (700)", "Mixed"), BackendError),
    "memory": (text_of("decoders.image", "std::bad_alloc"), ResourceError),
    "unforeseen": ("Critical error in pipeline:\nsomething", BackendError),
}


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("kind", SYSTEMS)
def test_an_error_of_the_system_ends_the_epoch_and_is_remembered_of_no_file(folder, monkeypatch, kind, place):
    text, expected = SYSTEMS[kind]
    with make(folder, "dali-cpu-stock") as loader:
        with monkeypatch.context() as patch:
            Broken(patch, text, {place})
            with pytest.raises(expected, match="no file is to blame"):
                list(loader)
        assert loader.bad_files == ()
        assert delivered(loader) == COUNT


def test_a_batch_of_one_is_looked_at_again_before_it_is_blamed(folder, monkeypatch):
    with make(folder, "dali-cpu-stock", batch_size=1) as loader, monkeypatch.context() as patch:
        Broken(patch, text_of("decoders.image", "Unsupported image type"), {3})
        assert delivered(loader) == COUNT
        assert loader.bad_files == ()


# What the system says


@pytest.fixture
def no_descriptors():
    """Call the result to use up the descriptors of the process; they are free again afterwards."""
    held, limits = [], resource.getrlimit(resource.RLIMIT_NOFILE)

    def use_up():
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[0]), limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))

    def free():
        while held:
            os.close(held.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    yield use_up, free
    free()


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu-stock"])
def test_files_stay_good_where_descriptors_run_out(folder, no_descriptors, backend):
    use_up, free = no_descriptors
    with make(folder, backend) as loader:
        assert delivered(loader) == COUNT
        use_up()
        try:
            with pytest.raises(ResourceError, match="too many open files") as got:
                list(loader)
        finally:
            free()
        assert isinstance(got.value, OSError) and got.value.errno == errno.EMFILE
        assert loader.bad_files == ()
        assert delivered(loader) == COUNT


def test_a_cache_is_filled_after_descriptors_ran_out(folder, no_descriptors):
    use_up, free = no_descriptors
    source = FolderSource(folder)
    cached = with_cache(source, RECIPE, "ram", None, 1)
    use_up()
    try:
        with pytest.raises(ResourceError):
            cached.item(0)
    finally:
        free()
    assert cached.kind == "pixels"


def test_check_and_the_comparison_of_two_parts_don_t_take_the_system_s_errors_for_a_file_s(folder, no_descriptors):
    use_up, free = no_descriptors
    source = FolderSource(folder)
    use_up()
    try:
        with pytest.raises(ResourceError):
            find_shared(source, source)
    finally:
        free()


class Failing:
    """Makes the opening of some file fail as a network mount does, so many times."""

    def __init__(self, monkeypatch, name, code, times):
        self.name, self.code, self.left, self.pauses = name, code, times, []
        self.open = os.open
        monkeypatch.setattr(os, "open", self)
        monkeypatch.setattr("time.sleep", self.pauses.append)

    def __call__(self, path, *arguments, **options):
        if str(path).endswith(self.name) and self.left:
            self.left -= 1
            raise OSError(self.code, os.strerror(self.code), path)
        return self.open(path, *arguments, **options)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT])
def test_what_passes_is_tried_three_times(folder, monkeypatch, code):
    with make(folder) as loader:
        with monkeypatch.context() as patch:
            failing = Failing(patch, "4.jpg", code, 2)
            assert delivered(loader) == COUNT
        assert failing.left == 0
        assert failing.pauses == sorted(failing.pauses) and len(set(failing.pauses)) == 2
        with monkeypatch.context() as patch:
            Failing(patch, "4.jpg", code, 3)
            with pytest.raises(ResourceError, match=r"4\.jpg") as got:
                list(loader)
        assert got.value.errno == code
        assert loader.bad_files == ()
        assert delivered(loader) == COUNT


@pytest.mark.parametrize("code", [errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT])
def test_what_does_not_pass_is_raised_at_once(folder, monkeypatch, code):
    with make(folder) as loader, monkeypatch.context() as patch:
        failing = Failing(patch, "4.jpg", code, 1)
        with pytest.raises(ResourceError):
            list(loader)
        assert failing.pauses == []
        assert loader.bad_files == ()


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.ELOOP])
def test_what_is_said_of_one_file_counts_against_it(folder, monkeypatch, code):
    with make(folder) as loader, monkeypatch.context() as patch:
        Failing(patch, "4.jpg", code, 10)
        assert delivered(loader) == COUNT - 1
        (bad,) = loader.bad_files
        assert bad.reason == os.strerror(code).lower()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("can't start new thread"),
        OSError(errno.EMFILE, "Too many open files"),
    ],
    ids=repr,
)
def test_memory_that_runs_out_while_decoding_is_no_file_s_fault(folder, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    with make(folder) as loader:
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "convert", fail)
            with pytest.raises(ResourceError):
                list(loader)
        assert loader.bad_files == ()
        assert delivered(loader) == COUNT


def test_memory_that_runs_out_after_decoding_is_told_alike(folder, monkeypatch):
    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with make(folder) as loader, monkeypatch.context() as patch:
        patch.setattr(torch, "stack", fail)
        with pytest.raises(ResourceError, match="CUDA out of memory"):
            list(loader)


def test_check_ends_where_a_disk_fails(folder, monkeypatch):
    Failing(monkeypatch, "4.jpg", errno.EIO, 3)
    with pytest.raises(ResourceError, match=r"4\.jpg"):
        inspect(folder, 1)


# What is no ordinary file


def test_a_pipe_a_socket_and_a_device_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "pipe", tmp_path / "socket", "/dev/zero", tmp_path):
        with pytest.raises(OSError) as got:
            read_file(path)
        assert not isinstance(got.value, ResourceError)
    listening.close()


def test_a_file_that_becomes_a_pipe_is_a_bad_file(folder):
    with make(folder) as loader:
        (folder / "a" / "4.jpg").unlink()
        os.mkfifo(folder / "a" / "4.jpg")
        assert delivered(loader) == COUNT - 1
        assert loader.bad_files[0].reason == "not an ordinary file"


# What a user catches


def test_the_errors_that_a_user_catches_can_be_imported(folder):
    from dalipipe import errors

    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for name in tree if name.endswith("Error")} <= set(dalipipe.__all__)
    (folder / "a" / "4.jpg").write_bytes(b"no image")
    with make(folder, on_error="raise") as loader, pytest.raises(dalipipe.DecodeError):
        list(loader)
    assert dalipipe.DecodeError is DecodeError
