"""The measurement of many samples runs, and writes what its page reports."""

import json
import subprocess
import sys

from bench import scale


def test_it_measures_what_it_says(make_image_folder, monkeypatch, capsys, tmp_path):
    photos = make_image_folder(per_class=2)
    for path in photos.glob("*/*.png"):
        path.rename(path.with_suffix(".jpg"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(scale, "CLASS", 70)
    monkeypatch.setattr(scale, "BATCH", 4)
    here = tmp_path / "links"

    run_truly = subprocess.run

    def run(command, **options):
        if "--one" not in command:
            return run_truly(command, **options)
        name, count = command[command.index("--one") + 1 :]
        return type("Done", (), {"stdout": json.dumps(scale.measure(name, photos, here / count, int(count)))})

    monkeypatch.setattr("subprocess.run", run)
    options = ["--few", "140", "--many", "280", "--most", "1000", "--folder", str(here)]
    options += ["--only", "indexed", "torch, synthetic", "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["scale", str(photos), *options])
    scale.main()
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert len(figures) == 5 and all(found["memory_mb"] >= 0 for found in figures.values())
    assert set(figures["indexed 280"]) == {*scale.ROWS, "memory_mb"}
    assert set(figures["torch, synthetic 1000"]) == {"start", "first batch", "memory_mb"}
    assert "| torch, synthetic | 1,000 |" in capsys.readouterr().out
