"""The scene file: read as strictly as the cell."""

from __future__ import annotations

import pytest
import yaml

from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share
from smolvla_ros.sim.scene import load_scene


@pytest.mark.parametrize(
    ("group", "name", "value", "says"),
    [
        (
            "table",
            "surfaces",
            0.0,
            "table.surfaces: unknown key (value 0.0); did you mean 'surface'?",
        ),
        ("table", "size", [0.9, 1.0], "table.size: has 2 values [0.9, 1.0]; write 3"),
        (
            "table",
            "rgba",
            [0.1, 0.2, 0.3, 2.0],
            "table.rgba[3]: is 2.0; write a value of at most 1",
        ),
        ("block_area", "mass", 0.0, "block_area.mass: is 0.0; write a value above 0"),
        ("blocks", "red", {"edge": 0.03}, "blocks.red.rgba: missing; give it"),
        ("cameras", "front", 3, "cameras.front: is 3; write a group of keys"),
        ("servo", "kp", "stiff", "servo.kp: is 'stiff'; write a number"),
    ],
)
def test_a_mistake_in_the_scene_is_one_line(tmp_path, group, name, value, says) -> None:
    document = yaml.safe_load(share("config", "tabletop_scene.yaml").read_text())
    document[group][name] = value
    path = tmp_path / "scene.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as caught:
        load_scene(path)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: {says}")


@pytest.mark.parametrize("text", ["", "a: [", "[]"])
def test_a_file_that_is_no_scene_is_refused_by_its_name(tmp_path, text) -> None:
    path = tmp_path / "scene.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_scene(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_scene_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: no such file"):
        load_scene(tmp_path / "no.yaml")
