from contextlib import nullcontext

import pytest

TINY = 'name = "tiny"\n[[ops]]\nop = "Resize"\nsize = [32, 32]\n[[ops]]\nop = "Normalize"\nmean = [0.5]\nstd = [0.5]\n'


@pytest.fixture(autouse=True)
def _compiled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command say that it compiles, which the first does that finds no compiled code: see tests/compilation."""
    monkeypatch.setattr("dalipipe.cli.compiling_said", nullcontext)


@pytest.fixture
def tiny() -> str:
    """A recipe for images of 32 x 32 px, as TOML."""
    return TINY


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs train one linear layer in place of a ResNet."""
    import torch

    from dalipipe.training.run import loop

    def create(name, classes, head, dropout):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, classes))

    monkeypatch.setattr(loop, "create_model", create)
