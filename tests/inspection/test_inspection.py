"""What is found in a folder of images: every kind of trouble, and nothing where there is none."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dalipipe.errors import SourceError, SourceNotFoundError
from dalipipe.inspection import FAILING, WARNINGS, inspect, walk
from dalipipe.sources import FolderSource


def encoded(form="JPEG", seed=0, size=(61, 47), mode="RGB", **options):
    """Return the bytes of an image of noise."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def sixteen_bit(form):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 2**16, (31, 23), dtype=np.uint16)).save(buffer, form)
    return buffer.getvalue()


def png_of(width, height, bits=8):
    """Return a PNG that claims a size, and holds the rows of one that is 9 x 7."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(9 * 3 * bits // 8)) for _ in range(7))
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg_of(width, height):
    """Return a JPEG whose header claims a size."""
    data = encoded()
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


JPEG, PNG, TIFF, WEBP, PPM = (encoded(form) for form in ("JPEG", "PNG", "TIFF", "WEBP", "PPM"))
GIF = encoded("GIF")
ANIMATED = encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (61, 47))])
HTML = b"<!DOCTYPE html>\n<html><body>404</body></html>\n"


@pytest.fixture
def folder(tmp_path):
    """folder({"ant/a.jpg": bytes}) -> a folder with those files beside good ones of the classes ant and bee."""

    def make(files, name="photos"):
        root = tmp_path / name
        for number, label in enumerate(("ant", "bee")):
            (root / label).mkdir(parents=True)
            (root / label / "good.jpg").write_bytes(encoded(seed=100 + number))
        for path, data in files.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_bytes(data)
        return root

    return make


def found(report):
    """Return [(name, kind, reason)] of all findings."""
    return [(file.name, finding.kind, finding.reason) for file in report.files for finding in file.findings]


def test_a_good_folder_has_no_findings(make_image_folder):
    root = make_image_folder(per_class=5)
    report = inspect(root, 2)
    assert (found(report), report.ok, list(report.duplicates), list(report.left_out)) == ([], True, [], [])
    assert [file.path for file in report.files] == [path for path, _ in FolderSource(root).samples]
    assert [(row.label, row.good, row.failing, row.warned) for row in report.tallies()] == [
        ("ant", 5, 0, 0),
        ("bee", 5, 0, 0),
        ("cat", 5, 0, 0),
    ]


@pytest.mark.parametrize(
    ("name", "data", "kind", "said"),
    [
        ("a.jpg", JPEG[: len(JPEG) // 2], "truncated", "a JPEG that ends early"),
        ("a.jpg", JPEG[:-2], "truncated", "a JPEG that ends early"),
        ("a.jpg", JPEG[:30], "truncated", "a JPEG that ends early"),
        ("a.png", PNG[: len(PNG) // 2], "truncated", "a PNG that ends early"),
        ("a.png", PNG[:20], "truncated", "a PNG that ends early"),
        ("a.webp", WEBP[: len(WEBP) // 2], "truncated", "a WebP that ends early"),
        ("a.tif", TIFF[: len(TIFF) // 2], "truncated", "a TIFF that ends early"),
        ("a.ppm", PPM[: len(PPM) // 2], "truncated", "a PPM that ends early"),
        ("a.png", PNG[:1000] + bytes([PNG[1000] ^ 255]) + PNG[1001:], "undecodable", "a PNG that is damaged"),
        ("a.jpg", HTML, "undecodable", "an HTML page, no image"),
        ("a.jpg", b"not found", "undecodable", "text, no image"),
        ("a.jpg", bytes(5000), "undecodable", "nothing but zeros (5,000 of them)"),
        ("a.jpg", b"%PDF-1.4\n" + bytes(100), "undecodable", "a PDF, no image"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "undecodable", "Git LFS"),
        ("a.jpg", bytes(range(128, 256)), "undecodable", "of no known kind"),
        ("a.jpg", b"", "empty", "0 bytes"),
        ("a.jpg", jpeg_of(65535, 65535), "enormous", "4,294,836,225 pixels"),
        ("a.png", png_of(65535, 65535), "enormous", "4,294,836,225 pixels"),
    ],
)
def test_what_would_fail_is_named_with_its_reason_and_nothing_else_is(folder, name, data, kind, said):
    report = inspect(folder({f"bee/{name}": data}), 2)
    ((name_found, kind_found, reason),) = found(report)
    assert (name_found, kind_found, report.ok) == (f"bee/{name}", kind, False)
    assert said in reason
    assert kind in FAILING
    assert "File:" not in reason


@pytest.mark.parametrize(
    ("name", "data", "kind", "said"),
    [
        ("a.jpg", PNG, "misnamed", "PNG content under the ending .jpg"),
        ("a.png", JPEG, "misnamed", "JPEG content under the ending .png"),
        ("a.png", encoded(size=(1, 1), form="PNG"), "suspicious", "1 x 1 px"),
        ("a.png", sixteen_bit("PNG"), "suspicious", "16 bits"),
        ("a.png", png_of(9, 7, bits=16), "suspicious", "16 bits"),
        ("a.tif", sixteen_bit("TIFF"), "suspicious", "16 bits"),
        ("a.jpg", encoded(mode="CMYK"), "suspicious", "CMYK"),
        ("a.jpg", encoded(exif=turned(6)), "suspicious", "on its side"),
        ("a.png", encoded("PNG", exif=turned(3)), "suspicious", "upside down"),
        ("a.jpg", JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), "suspicious", "may be missing"),
    ],
)
def test_what_is_merely_odd_is_a_warning(folder, name, data, kind, said):
    report = inspect(folder({f"bee/{name}": data}), 2)
    ((name_found, kind_found, reason),) = found(report)
    assert (name_found, kind_found, report.ok) == (f"bee/{name}", kind, True)
    assert said in reason
    assert kind in WARNINGS
    assert [(row.good, row.failing, row.warned) for row in report.tallies()] == [(1, 0, 0), (1, 0, 1)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.JPG", JPEG),
        ("a.jpeg", encoded(progressive=True)),
        ("a.jpg", JPEG + b"a camera's own notes"),
        ("a.jpg", encoded(exif=turned(1))),
        ("a.png", encoded("PNG", mode="P")),
        ("a.pgm", encoded("PPM", mode="L")),
        ("a.tiff", TIFF),
        ("a.webp", WEBP),
        ("a.bmp", encoded("BMP")),
    ],
)
def test_ordinary_images_of_every_form_are_good(folder, name, data):
    assert found(inspect(folder({f"bee/{name}": data}), 2)) == []


def test_a_gif_under_another_ending_is_misnamed(folder):
    report = inspect(folder({"ant/a.jpg": GIF}), 2)
    assert [(name, kind) for name, kind, _ in found(report)] == [
        ("ant/a.jpg", "misnamed"),
    ]
    assert report.ok


def test_an_image_below_the_limit_is_large_and_one_above_it_enormous(folder, monkeypatch):
    root = folder({"ant/large.png": png_of(9, 7), "ant/enormous.png": encoded("PNG", size=(11, 13))})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 62)
    for label in ("ant", "bee"):
        (root / label / "good.jpg").write_bytes(encoded(seed=len(label) + ord(label[0]), size=(5, 7)))
    kinds = [(name, kind) for name, kind, _ in found(inspect(root, 2))]
    assert kinds == [("ant/enormous.png", "enormous"), ("ant/large.png", "large")]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert found(inspect(root, 2)) == []


def test_bad_files_among_many_are_told_from_the_good_ones_of_their_batch(folder):
    spoiled = {f"bee/{number:03}.png": encoded("PNG", seed=number, size=(13, 11)) for number in range(150)}
    for number in (0, 63, 64, 149):  # damaged inside, as only a decoder sees
        data = spoiled[f"bee/{number:03}.png"]
        spoiled[f"bee/{number:03}.png"] = data[:100] + bytes([data[100] ^ 255]) + data[101:]
    report = inspect(folder(spoiled), 2)
    assert [name for name, _, _ in found(report)] == [f"bee/{number:03}.png" for number in (0, 63, 64, 149)]
    assert len(report.files) == 152


def test_what_cannot_be_read_says_why(folder, monkeypatch):
    root = folder({"ant/vanishes.jpg": JPEG})
    (root / "ant/link.jpg").symlink_to("nowhere.jpg")
    (root / "ant/folder.jpg").mkdir()
    os.mkfifo(root / "ant/pipe.jpg")  # no file, and so not listed

    def list_and_remove(data):
        listing = list_data(data)
        (root / "ant/vanishes.jpg").unlink()
        return listing

    from dalipipe.inspection.listing import list_data

    monkeypatch.setattr(walk, "list_data", list_and_remove)
    report = inspect(root, 2)
    assert found(report) == [
        ("ant/link.jpg", "unreadable", "a link to nothing"),
        ("ant/vanishes.jpg", "unreadable", "it was there a moment ago, and is gone"),
    ]


def test_names_may_hold_anything(folder):
    names = ["line\nbreak", 'it\'s "quoted"', "snow ☃ 🐜", "-rf", "$(touch x)", os.fsdecode(b"\xff\xfe")]
    report = inspect(folder({f"ant/{name}.jpg": HTML for name in names}), 2)
    assert {name for name, kind, _ in found(report) if kind == "undecodable"} == {f"ant/{name}.jpg" for name in names}


# Duplicates


def test_duplicates_are_grouped_and_those_in_different_classes_come_first(folder):
    other, third = encoded(seed=7), encoded(seed=8)
    files = {"ant/1.jpg": JPEG, "ant/2.jpg": JPEG, "bee/3.jpg": other, "ant/4.jpg": other, "bee/5.jpg": third}
    report = inspect(folder(files), 2)
    groups = [(one.across, [report.files[at].name for at in one.positions]) for one in report.duplicates]
    assert groups == [("classes", ["ant/4.jpg", "bee/3.jpg"]), ("one class", ["ant/1.jpg", "ant/2.jpg"])]
    reasons = {name: reason for name, _, reason in found(report)}
    assert reasons["ant/1.jpg"] == "the same bytes as ant/2.jpg"
    assert reasons["bee/3.jpg"] == "the same bytes as ant/4.jpg, in another class"
    assert report.ok


def test_files_of_one_size_and_one_end_are_no_duplicates(folder):
    pixels = encoded("PPM", size=(61, 47))
    changed = pixels[:100] + bytes([pixels[100] ^ 1]) + pixels[101:]
    report = inspect(folder({"ant/1.ppm": pixels, "ant/2.ppm": changed}), 2)
    assert list(report.duplicates) == []


def test_what_would_fail_is_no_duplicate(folder):
    report = inspect(folder({"ant/1.jpg": HTML, "bee/2.jpg": HTML, "ant/3.jpg": b"", "ant/4.jpg": b""}), 2)
    assert list(report.duplicates) == []


# A folder with train and val


def test_train_and_val_are_both_inspected_and_an_image_in_both_is_said(folder):
    train, val = folder({"ant/1.jpg": JPEG}, "photos/train"), folder({"ant/2.jpg": JPEG}, "photos/val")
    for label in ("ant", "bee"):
        (val / label / "good.jpg").write_bytes(encoded(seed=ord(label[0])))
    report = inspect(train.parent, 2)
    assert [(row.part, row.label) for row in report.tallies()] == [
        ("train", "ant"),
        ("train", "bee"),
        ("val", "ant"),
        ("val", "bee"),
    ]
    ((across, names),) = [(one.across, [report.files[at].name for at in one.positions]) for one in report.duplicates]
    assert (across, names) == ("train and val", ["train/ant/1.jpg", "val/ant/2.jpg"])


def test_what_is_left_out_is_counted_by_ending(folder):
    root = folder({"ant/a.gif": GIF, "ant/b.GIF": GIF, "bee/notes.txt": b"", "bee/none": b""})
    (root / "above.jpg").write_bytes(JPEG)
    report = inspect(root, 2)
    assert found(report) == []
    assert report.endings_left_out() == {".gif": 2, "": 1, ".jpg": 1, ".txt": 1}
    assert set(report.left_out) == {"ant/a.gif", "ant/b.GIF", "bee/notes.txt", "bee/none", "above.jpg"}


def test_sizes_are_those_of_the_images_that_do_not_fail(tmp_path):
    for number, size in enumerate(((10, 20), (30, 5), (100, 50))):
        path = tmp_path / "photos/ant" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded("PNG", size=size))
    (tmp_path / "photos/ant/bad.png").write_bytes(encoded("PNG", size=(999, 999))[:-500])
    sizes = inspect(tmp_path / "photos", 2).sizes()
    assert (sizes["width_px"].least, sizes["width_px"].median, sizes["width_px"].most) == (10, 30, 100)
    assert (sizes["height_px"].least, sizes["height_px"].median, sizes["height_px"].most) == (5, 20, 50)
    assert sizes["megapixels"].most == 0.005
    assert sizes["size_bytes"].least == min(path.stat().st_size for path in (tmp_path / "photos/ant").glob("?.png"))


def test_folders_that_no_training_takes_are_refused(tmp_path, folder):
    with pytest.raises(SourceNotFoundError, match="must exist"):
        inspect(tmp_path / "gone", 2)
    folder({}, "photos/train")
    (folder({}, "photos/val") / "cat").mkdir()
    (tmp_path / "photos/val/cat/a.jpg").write_bytes(JPEG)
    with pytest.raises(SourceError, match="no other classes than"):
        inspect(tmp_path / "photos", 2)


def test_progress_counts_every_file(folder):
    told = []
    inspect(folder({"ant/a.jpg": HTML}), 2, lambda what, done, total: told.append((what, done, total)))
    assert told[-2:] == [("decoding", 3, 3), ("comparing", 3, 3)]
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_real_photos_are_good(hymenoptera):
    report = inspect(hymenoptera, 2)
    assert report.ok
    assert len(report.files) == 397
    assert report.endings_left_out() == {".gif": 1}
