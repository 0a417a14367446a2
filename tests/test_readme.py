"""The README's promises that can be run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_library_example_runs_and_writes_its_picture(tmp_path, monkeypatch):
    example = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "generate" in block)
    assert len([line for line in example.splitlines() if line.strip()]) <= 13
    example = example.replace('"checkpoints/', f'"{ROOT}/checkpoints/')
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "digits.png").stat().st_size > 1000


def test_every_file_the_readme_names_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src(?:set)?="([^"]+)"', README)
    assert len(targets) > 14
    for target in targets:
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_front_matter_names_the_pinned_gradio():
    version = re.search(r"sdk_version: (\S+)", README)[1]
    assert f"gradio=={version}" in (ROOT / "requirements.txt").read_text()
