"""What is public: the list of names, their docstrings, and the pages made from these."""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
from pdoc.__main__ import cli as pdoc

EARLIER = {
    "dalipipe": (
        "BackendError",
        "ConfigError",
        "CutMix",
        "DalipipeError",
        "DataLoader",
        "DecodeError",
        "DivergedError",
        "FolderSource",
        "MixUp",
        "PeerError",
        "Recipe",
        "RecipeError",
        "ResourceError",
        "SamplerError",
        "Source",
        "SourceError",
        "SourceNotFoundError",
        "StateError",
        "StoppedError",
        "WeightsError",
        "dali_iterator",
        "list_recipes",
        "load_model",
        "preview",
        "split_sources",
    ),
    "dalipipe.recipe": ("Recipe", "list_recipes"),
    "dalipipe.ops": ("OPS", "Op", "Resize", "RandomResizedCrop", "Normalize", "RandomApply", "leaves"),
    "dalipipe.loader": ("DataLoader",),
    "dalipipe.mix": ("CutMix", "MixUp", "RandomChoice"),
    "dalipipe.backends": ("BACKENDS", "Finish", "Job", "Output", "compile_recipe", "describe_step", "resolve_backend"),
    "dalipipe.sampling": ("Batch", "Shard"),
    "dalipipe.sources": ("ArraySource", "FolderSource", "Source", "SubsetSource", "fold_sources", "split_sources"),
    "dalipipe.training": ("TrainConfig",),
    "dalipipe.training.config": ("TrainConfig",),
    "dalipipe.training.loop": ("train",),
    "dalipipe.training.models": ("create_model",),
    "dalipipe.training.weights": ("load_weights",),
    "dalipipe.parity": ("Settings", "compare", "tolerance_of", "tolerance_of_recipe"),
    "dalipipe.inspection": ("Report", "fixes", "inspect"),
    "dalipipe.text": ("AugmentedDataset", "Recipe", "Segmenter", "Synonyms", "TextAugment", "Vocabulary", "WordNet"),
    "dalipipe.samples": ("CLASSES", "ensure", "render"),
}
"""Names that scripts import. None may go, whatever moves within."""

_PAGE = (Path(__file__).resolve().parents[1] / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMMAND = shlex.split(re.findall(r"^<!-- block: api -->\n```sh\n(.*?)^```$", _PAGE, re.DOTALL | re.MULTILINE)[0])
MODULES = [word for word in COMMAND if word.partition(".")[0] == "dalipipe"]


@pytest.mark.parametrize("module", EARLIER)
def test_names_that_scripts_import_stay_where_they_were(module):
    there = importlib.import_module(module)
    assert [name for name in EARLIER[module] if not hasattr(there, name)] == []


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_says_what_it_is(name):
    module = importlib.import_module(name)
    assert module.__doc__ and module.__all__
    values = {each: getattr(module, each) for each in module.__all__ if not each.startswith("_")}
    callables = {each: value for each, value in values.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert [each for each, value in callables.items() if not inspect.getdoc(value)] == []


@pytest.mark.filterwarnings("ignore")  # as on the command line
def test_the_pages_of_the_api_have_every_public_name(tmp_path, monkeypatch):
    program, *arguments = COMMAND
    assert program == "pdoc"
    monkeypatch.chdir(tmp_path)
    pdoc(arguments)
    for name in MODULES:
        page = (tmp_path / "api" / Path(*name.split("."))).with_suffix(".html").read_text(encoding="utf-8")
        public = [each for each in importlib.import_module(name).__all__ if not each.startswith("_")]
        assert [each for each in public if f'id="{each}"' not in page] == [], name
