from pathlib import Path

import numpy as np
import pytest

from models.maker.art import load_art
from models.maker.catalogue import withheld
from models.maker.groups import LOOKS, SCENES, draw_groups
from models.maker.scenes import Facts, draw_facts
from models.maker.stream import draw_shard


@pytest.fixture(scope="module")
def scenes(art_file: Path) -> list[Facts]:
    art = load_art(art_file)
    return [
        draw_facts(np.random.default_rng([1, index]), art, width=(index % 11) / 10)
        for index in range(4000)
    ]


def test_no_training_scene_shows_a_held_out_look(art_file: Path, scenes: list[Facts]) -> None:
    looks = load_art(art_file).looks
    shown = {thing.look for scene in scenes for thing in scene.things}
    shown |= {t.worn_look for scene in scenes for t in scene.things if t.worn is not None}
    assert len(shown) > 150
    assert not [looks[index].name for index in shown if looks[index].held_out]


def test_no_training_scene_shows_a_withheld_pair(scenes: list[Facts]) -> None:
    places = {(t.subject, s.place) for s in scenes for t in s.things if s.place is not None}
    colours = {(t.subject, t.colour) for s in scenes for t in s.things if t.colour is not None}
    assert len(places) > 400 and len(colours) > 200
    assert not [pair for pair in places | colours if withheld(*pair)]


def test_a_shard_is_a_function_of_its_seed_alone(art_file: Path) -> None:
    first, again, other = (draw_shard(art_file, [5, n], 16, 1.0) for n in (0, 0, 1))
    assert np.array_equal(first.pictures, again.pictures)
    assert np.array_equal(first.ids, again.ids)
    assert not np.array_equal(first.pictures, other.pictures)


def test_two_looks_of_a_group_share_one_place_and_one_super_category(art_file: Path) -> None:
    groups = draw_groups(art_file, [3], 32)
    assert groups.pictures.shape[:3] == (32, LOOKS, SCENES)
    assert np.array_equal(groups.places[:, 0, 1], groups.places[:, 1, 0])
    assert (groups.identities[:, 0] != groups.identities[:, 1]).all()


def test_a_held_out_group_begins_with_a_look_that_no_training_draws(art_file: Path) -> None:
    looks = load_art(art_file).looks
    groups = draw_groups(art_file, [3], 32, held_out=True)
    assert all(looks[index].held_out for index in groups.identities[:, 0])
