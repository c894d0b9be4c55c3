"""The code of the README's section on text does what the section says."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks():
    text = README.read_text(encoding="utf-8")
    section = re.search(r"^## Text\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, "README.md has no section '## Text'"
    found = re.findall(r"^```python\n(.*?)^```", section[1], re.DOTALL | re.MULTILINE)
    assert found, "the section '## Text' of README.md has no Python code"
    return found


def test_the_code_runs_as_it_stands():
    for number, block in enumerate(blocks()):
        names: dict[str, object] = {}
        exec(compile(block, f"README.md, block {number} on text", "exec"), names)
        augment, sentences = names["augment"], names["sentences"]
        assert augment.epoch == 1
        assert [text for text, _ in names["batch"]] == augment(sentences, range(len(sentences)))
        assert len(augment.variants(sentences[0], 4)) == 4
