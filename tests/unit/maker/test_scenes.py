from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.maker.groups import LOOKS, SCENES, draw_groups
from models.maker.scenes.art import load_art
from models.maker.scenes.catalogue import WEARERS, withheld
from models.maker.scenes.colouring import Change, draw_outline
from models.maker.scenes.drawing import Painter
from models.maker.scenes.scene import Facts, Thing, caption, draw_facts, object_regions
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


def _share(answers: list[bool]) -> float:
    return sum(answers) / len(answers)


def test_scenes_hold_as_many_objects_as_the_recipe_says(scenes: list[Facts]) -> None:
    # A scene whose first object wears something shows no other object.
    several = [scene for scene in scenes if len(scene.things) > 1]
    assert _share([len(scene.things) > 1 for scene in scenes]) == pytest.approx(0.27, abs=0.03)
    assert _share([len(scene.things) == 3 for scene in several]) == pytest.approx(0.25, abs=0.05)


def test_an_eighth_of_the_objects_is_drawn_with_a_pen(scenes: list[Facts]) -> None:
    # Objects of a captioned colour have no other change.
    things = [thing for scene in scenes for thing in scene.things if thing.colour is None]
    assert _share([thing.change.outline > 0 for thing in things]) == pytest.approx(0.12, abs=0.02)


def test_a_fifth_of_those_who_can_wear_something_do(art_file: Path) -> None:
    art = load_art(art_file)
    wearers = sorted(WEARERS)
    drawn = [
        draw_facts(np.random.default_rng([2, k]), art, width=1.0, subject=wearers[k % len(wearers)])
        for k in range(2000)
    ]
    worn = [scene.things[0].worn is not None for scene in drawn]
    assert _share(worn) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_a_scene_shows_as_many_objects_as_are_asked_for(art_file: Path, objects: int) -> None:
    art = load_art(art_file)
    for k in range(50):
        rng = np.random.default_rng([3, k])
        scene = draw_facts(rng, art, width=1.0, subject="cat", objects=objects)
        assert len(scene.things) == objects and scene.things[0].subject == "cat"


def _told(*subjects: str, relation: str, articles: bool = True) -> str:
    things = tuple(Thing(word, 0, Change(), None, 32, 32, 40) for word in subjects)
    return caption(Facts(things, None, 0, 0, False, (0, 0, 0), None, relation, articles=articles))


def test_three_objects_are_told_as_people_tell_them() -> None:
    assert _told("cat", "owl", "tree", relation="and") == "a photo of a cat, an owl and a tree"


def test_two_objects_are_told_by_their_relation() -> None:
    assert _told("cat", "owl", relation="next to") == "a photo of a cat next to an owl"


def test_a_caption_may_lack_its_articles() -> None:
    told = _told("cat", "owl", "tree", relation="and", articles=False)
    assert told == "a photo of cat, owl and tree"


def test_a_third_of_the_captions_lack_articles_and_half_of_these_a_photo_of(
    scenes: list[Facts],
) -> None:
    bare = [scene for scene in scenes if not scene.articles]
    assert _share([not scene.articles for scene in scenes]) == pytest.approx(1 / 3, abs=0.03)
    first = [caption(scene).split()[0] for scene in bare if scene.style is None]
    # One of eleven templates is bare as well.
    assert _share([word in ("a", "an", "the") for word in first]) == pytest.approx(0.45, abs=0.05)


def test_every_object_lies_in_its_region(art_file: Path, scenes: list[Facts]) -> None:
    painter = Painter(load_art(art_file), 7)
    for scene in scenes[:300]:
        regions = object_regions(scene)
        masks = [painter.mask(scene, number) for number in range(len(scene.things))]
        shown = np.max(masks, axis=0) > 127
        cells = regions.repeat(8, 0).repeat(8, 1)
        # A cell that an object touches by less than half is not counted.
        assert shown[cells == 1].sum() > 0.97 * shown.sum()
        assert 0.02 < regions.mean() < 0.95


def test_an_outline_surrounds_a_sprite_and_leaves_its_size() -> None:
    sprite = Image.new("RGBA", (100, 100))
    ImageDraw.Draw(sprite).ellipse((0, 0, 99, 99), fill=(250, 220, 60, 255))
    drawn = np.asarray(draw_outline(sprite, 0.03))
    assert drawn.shape == (100, 100, 4)
    row = drawn[50].astype(int)  # across the middle: outline, sprite, outline
    assert row[1, :3].max() < 60 and row[98, :3].max() < 60
    assert row[50, 0] > 240
    assert (row[[1, 50, 98], 3] > 200).all()


def test_a_scene_is_drawn_at_128_pixels(art_file: Path) -> None:
    shard = draw_shard(art_file, [5], 2, 1.0)
    assert shard.pictures.shape == (2, 128, 128, 3)
    assert shard.regions.shape == (2, 16, 16)
