"""The pages say what is true: every block of code runs, every link leads somewhere, every table is complete."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dalipipe
from dalipipe.backends import BACKENDS
from dalipipe.cli import app
from dalipipe.recipes import Recipe, list_recipes

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in (".", ".github", "pipelines", "examples", "tests", "bench", "dalipipe")
    for path in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))
}
README = PAGES["README.md"]
BLOCK = re.compile(r"(?:^<!-- block: ([a-z-]+) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [(page, name, language, code) for page, text in PAGES.items() for name, language, code in BLOCK.findall(text)]
QUICK = ["--weights", "none", "--epochs", "1", "--recipe", "cifar-train", "--backend", "torchvision", "--no-report"]


def code_of(name: str) -> str:
    """The block of that name; a test of its own says that each is there once."""
    return next(code for _, found, _, code in BLOCKS if found == name)


def run(code: str, **names: object) -> dict[str, object]:
    scope = {"dalipipe": dalipipe, **names}
    exec(compile(code, "a page", "exec"), scope)
    return scope


@pytest.fixture
def photos_here(make_image_folder, monkeypatch):
    """A current directory with photos/train and photos/val."""
    root = make_image_folder("photos/train", classes=("ant", "bee"), per_class=5).parent
    make_image_folder("photos/val", classes=("ant", "bee"), per_class=1, seed=1)
    monkeypatch.chdir(root.parent)
    return root


def install_line(code: str, end: str) -> None:
    assert len(code.strip().splitlines()) == 1
    assert code.strip().endswith(end)


def install_and_train(photos, capsys) -> None:
    install_line(code_of("install-and-train"), "&& pip install . && dalipipe train")


def install_and_test(photos, capsys) -> None:
    install_line(code_of("install-and-test"), "pip install -e '.[test]' && python -m pytest")


def set_up(photos, capsys) -> None:
    start = code_of("install-and-train").split(" && pip")[0]
    assert code_of("set-up").strip() == f"{start} && pip install -e '.[test]'"


def drop_in(photos, capsys) -> None:
    """Both lines run on the same data set and give the same labels in number, shape and type."""
    import torch
    from torchvision import datasets, transforms

    removed, added = re.findall(r"^([-+].*)$", code_of("drop-in"), re.MULTILINE)
    assert removed[1:].replace("torch.utils.data.", "dalipipe.") == added[1:]
    data = datasets.ImageFolder("photos/train", transforms.Compose([transforms.Resize((9, 9)), transforms.ToTensor()]))
    for line in (removed[1:].replace("num_workers=4", "num_workers=0"), added[1:]):
        (batch,) = run(line, torch=torch, train_set=data)["train_loader"]
        assert [(tuple(each.shape), each.dtype) for each in batch] == [
            ((10, 3, 9, 9), torch.float32),
            ((10,), torch.int64),
        ]


def loop(name: str) -> Callable[..., None]:
    def check(photos, capsys) -> None:
        run(code_of(name).replace("        ...", "        print(tuple(images.shape), images.dtype, labels.dtype)"))
        assert capsys.readouterr().out.splitlines() == ["(10, 3, 224, 224) torch.float32 torch.int64"] * 2

    return check


def mix(photos, capsys) -> None:
    run(code_of("mix").replace("        ...", "        print(tuple(images.shape), labels.dtype, tuple(labels.shape))"))
    assert capsys.readouterr().out.splitlines()[0] == "(4, 3, 224, 224) torch.float32 (4, 2)"


def bad_files(photos, capsys) -> None:
    (photos / "train/ant/ant_0.jpg").write_bytes(b"<html>")
    loader = run(code_of("bad-files").replace("max_bad=0.01", "max_bad=0.5"))["loader"]
    with loader:
        assert [len(labels) for _, labels in loader] == [10]
    assert [Path(file.path).name for file in loader.bad_files] == ["ant_0.jpg"]
    assert "ant_0.jpg" in Path("quarantine.jsonl").read_text()


def one_import(photos, capsys) -> None:
    assert code_of("one-import") == "-from torch.utils.data import DataLoader\n+from dalipipe import DataLoader\n"


def recipe_of_views(photos, capsys) -> None:
    recipe = Recipe.from_toml(f'name = "test"\n{code_of("recipe-of-views")}')
    assert [view.output_shape for view in recipe.views] == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 6


def recipe_of_calls(photos, capsys) -> None:
    recipe = Recipe.from_toml(f'name = "test"\n{code_of("recipe-of-calls")}')
    with dalipipe.DataLoader(photos / "train", 2, recipe=recipe, backend="torchvision", num_threads=1) as loader:
        images, _ = next(iter(loader))
    assert images.shape == (2, 3, 224, 224) and len(images.unique()) <= 8


def recipe_of_choices(photos, capsys) -> None:
    crop = '[[ops]]\nop = "CenterCrop"\nsize = 8\n'
    recipe = Recipe.from_toml(f'name = "test"\n{code_of("recipe-of-choices")}\n{crop}')
    assert [op.op for op in recipe.ops] == ["RandomChoice", "CenterCrop"]


def photos_to_model(photos, capsys) -> None:
    """The three commands run one after the other, with a small network's options."""
    import onnx

    photos.rename("all-photos")
    Path("all-photos/train").rename("photos")
    Path("all-photos/val/ant").rename("new-photos")
    lines = []
    for command in (commands := code_of("photos-to-model").splitlines()):
        _, *arguments = shlex.split(command)
        result = CliRunner().invoke(app, arguments + (QUICK if arguments[0] == "train" else []))
        assert result.exit_code == 0, result.output
        lines.append(result.stdout.splitlines())
    assert len(commands) == 3
    assert len(lines[1]) == 1
    onnx.checker.check_model(onnx.load("photos.onnx"))


def torchrun(photos, capsys) -> None:
    _, options = code_of("torchrun").split(" -m dalipipe ")
    result = CliRunner().invoke(app, [*shlex.split(options), *QUICK])
    assert result.exit_code == 0, result.output


def text(photos, capsys) -> None:
    names = run(code_of("text"))
    augment, sentences = names["augment"], names["sentences"]
    assert augment.epoch == 1
    assert [text for text, _ in names["batch"]] == augment(sentences, range(len(sentences)))
    assert len(augment.variants(sentences[0], 4)) == 4


def api(photos, capsys) -> None:
    """Whether it runs, test_api.py says."""
    assert code_of("api").startswith("pdoc ")


def any_data_set(photos, capsys) -> None:
    scope = run(code_of("any-data-set"))
    assert [len(batch["path"]) for batch in scope["loader"]] == [8, 2]
    assert scope["one"].shape == scope["other"].shape == (2, 3, 96, 96)
    assert not scope["one"].equal(scope["other"])


def store(photos, capsys) -> None:
    blobs = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in photos.glob("train/*/*")}
    with run(code_of("store"), blobs=blobs)["loader"] as loader:
        assert sorted(label for _, labels in loader for label in labels.tolist()) == [0] * 5 + [1] * 5


def mixed(photos, capsys) -> None:
    assert sum(len(labels) for _, labels in run(code_of("mixed"))["loader"]) == 12


CHECKS: dict[str, Callable[..., None]] = {
    "api": api,
    "install-and-train": install_and_train,
    "install-and-test": install_and_test,
    "set-up": set_up,
    "drop-in": drop_in,
    "ten-lines": loop("ten-lines"),
    "loop": loop("loop"),
    "bad-files": bad_files,
    "mix": mix,
    "any-data-set": any_data_set,
    "mixed": mixed,
    "store": store,
    "one-import": one_import,
    "recipe-of-choices": recipe_of_choices,
    "recipe-of-views": recipe_of_views,
    "recipe-of-calls": recipe_of_calls,
    "photos-to-model": photos_to_model,
    "torchrun": torchrun,
    "text": text,
}


def test_every_block_has_a_name_of_its_own_and_a_check():
    assert sorted(name for _, name, _, _ in BLOCKS) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_block_does_what_its_page_says(name, photos_here, capsys):
    CHECKS[name](photos_here, capsys)


def test_shell_blocks_are_ones_that_a_shell_can_read():
    for _, _, language, code in BLOCKS:
        if language == "sh":
            assert subprocess.run(["bash", "-n", "-c", code], check=False).returncode == 0


def section(page: str, title: str) -> str:
    found = re.search(rf"^##? {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGES[page], re.DOTALL | re.MULTILINE)
    assert found, f"{page} has no section {title!r}"
    return found.group(1)


def first_column(page: str, title: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", section(page, title), re.MULTILINE)


def test_every_recipe_is_in_its_table():
    assert sorted(first_column("pipelines/README.md", "Recipes")) == sorted(list_recipes())


def test_every_backend_is_in_its_table():
    assert first_column("README.md", "Backends") == list(BACKENDS)


def test_every_command_is_in_its_table():
    commands = {command.name for command in app.registered_commands}
    assert {row.split()[1] for row in first_column("README.md", "On the command line")} == commands


def test_every_example_is_in_its_table():
    listed = re.findall(r"^\| \[(\w+\.py)\]", PAGES["examples/README.md"], re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_the_length_of_the_example_is_as_said():
    said = int(re.search(r"training script of (\d+) lines", PAGES["examples/README.md"]).group(1))
    assert abs(len((ROOT / "examples/quickstart.py").read_text().splitlines()) - said) <= 5
