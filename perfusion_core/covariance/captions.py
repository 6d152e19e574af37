"""Built-in captions for estimating the covariance; every call yields the same captions.

A small grammar combines everyday words, so no download is needed. The grammar uses only words that
the tokenizer encodes as one token. So the text encoder was trained on every word in the estimate.

The grammar knows some 770 of CLIP's 49,408 tokens. So if the tokenizer has a large vocabulary,
every second caption is longer: two captions of the grammar with some of the tokenizer's own whole
words between them. All its whole words have their turn.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice

_NOUNS = """
airplane alien angel ant apple astronaut baby backpack bag ball balloon banana barn basket bat bath
beach bear bed bee beetle bell bench bicycle bike bird boat book boot bottle bowl box boy bread
bridge broccoli brush bucket building bull burger bus butterfly button cabin cactus cage cake camel
camera candle candy canoe car carpet carrot castle cat chair cheese cherry chess chicken child
church circle city clock cloud clown coat coffee coin computer cookie corn couch cow cowboy crab
crow crown cup curtain deer desert desk dinosaur dog doll dolphin donkey donut door dragon dress
drum duck eagle egg elephant face farm fence field fire fireplace fish flag flower forest fork
fountain fox frog fruit garden ghost gift giraffe girl glass goat gold goose grape grass guitar
hammer hand harbor hat heart helmet hill horse hotel house ice island jacket jar jeep jelly jewel
jungle kangaroo kettle key king kitchen kite kitten knife knight koala lake lamp laptop leaf lemon
leopard library lighthouse lion lizard lobster log man map market mask meadow melon mirror monkey
monster moon moose mosaic motorcycle mountain mouse mug muffin mushroom necklace nest notebook oak
ocean octopus orange orchid otter oven owl paddle painting palace palm pan panda paper park parrot
pasta path peach peacock pear pen pencil penguin person phone piano picture pie pig pigeon pillow
pineapple pirate pizza plane planet plant plate plum pond pony poster potato prince princess puppy
pumpkin purse queen rabbit radio raft railway rain rainbow raven ring river road robot rock rocket
roof room rooster rope rose ruby ruin sailboat salad sandwich saturn scarf school scooter sculpture
seal shark sheep shell ship shirt shoe shop sink skateboard skull sky snail snake snow snowman sofa
soldier soup spaceship sparrow spider spoon squirrel stairs star statue strawberry street submarine
suit suitcase sun sunflower surfboard swan sweater sword table tank taxi tea teacher teapot teddy
telephone temple tent tiger toast tomato tower toy tractor train tree truck trumpet tulip tunnel
turkey turtle umbrella unicorn vampire van vase village violin volcano wagon wall wallet watch water
waterfall watermelon whale wheel window wine witch wizard wolf woman wood yacht zebra
""".split()
_ADJECTIVES = """
red blue green yellow orange purple pink white black brown gray golden silver small large tiny big
huge old new wooden metal plastic broken shiny dirty clean bright dark soft round tall short happy
sad angry sleepy funny cute beautiful strange antique modern colorful striped furry plush
""".split()
_PLACES = [
    "on the beach", "in the snow", "in the forest", "at night", "in the city", "on a street",
    "in a garden", "in the desert", "on the grass", "in the sea", "in space", "in a room",
    "in the kitchen", "on a table", "in the mountains", "in the park", "by the lake", "at sunset",
    "under a tree", "in front of a house", "on the floor", "in the rain", "under water",
    "in a field", "on top of a rock", "in the sky",
]  # fmt: skip
_ACTIONS = """
standing sitting sleeping running jumping flying swimming eating playing looking walking floating
""".split()
_STYLES = """
photo picture painting drawing sketch image portrait illustration sculpture watercolor
""".split()
_FORMS = [
    "a {style} of a {noun}", "a {noun}", "the {noun} {place}",
    "a {style} of the {adjective} {noun}",
    "a {adjective} {noun} {place}", "a {style} of a {noun} {place}", "a {noun} and a {other}",
    "a {noun} next to a {other} {place}", "a {adjective} {noun} with a {other}",
    "a {noun} {action} {place}", "a {style} of a {noun} {action}", "a {noun} wearing a {other}",
    "a {style} of one {noun}, {place}", "my {adjective} {noun}", "a {style} of two {noun}s",
    "a {noun} in a {adjective} {other}", "a close-up {style} of a {noun}",
    "a {style} of a {noun} in the style of a {adjective} {style}",
]  # fmt: skip

KnownWord = Callable[[str], bool]

LARGE_VOCABULARY = 10_000
"""The fewest whole words of a vocabulary that are mixed in. A smaller vocabulary, such as the
shipped model's, is made for the words of its captions, and its other words are rests of them."""

_WORDS_OF_LONGER = (4, 8, 12)


def captions(count: int, *, known: KnownWord, words: Sequence[str] = ()) -> Iterator[str]:
    """Yield the first `count` captions of `known` words; yield nothing if no word is known.

    `words` are the whole words of the tokenizer, in any order.
    """
    simple = _stream(known)
    if len(words) < LARGE_VOCABULARY:
        return islice(simple, count)
    return islice(_mixed(simple, words), count)


def _mixed(simple: Iterator[str], words: Sequence[str]) -> Iterator[str]:
    """Alternate captions of the grammar with longer captions."""
    # Neighbours in the vocabulary are of one frequency, so the order is that of a hash.
    own = cycle(sorted(words, key=lambda word: hashlib.blake2b(word.encode()).digest()))
    for length, caption in zip(cycle(_WORDS_OF_LONGER), simple, strict=False):
        yield caption
        yield ", ".join((next(simple), " ".join(islice(own, length)), next(simple)))


def _stream(known: KnownWord) -> Iterator[str]:
    nouns = [word for word in _NOUNS if known(word)]
    words = {
        "adjective": [word for word in _ADJECTIVES if known(word)],
        "action": [word for word in _ACTIONS if known(word)],
        "style": [word for word in _STYLES if known(word)],
        "place": [p for p in _PLACES if all(known(word) for word in p.split())],
    }
    forms = [f for f in _FORMS if all(words[w] for w in words if f"{{{w}}}" in f)]
    if not nouns:
        return
    index = 0
    while True:
        draw = _Draw(index)
        chosen = {name: draw.pick(options) for name, options in words.items() if options}
        yield draw.pick(forms).format(noun=draw.pick(nouns), other=draw.pick(nouns), **chosen)
        index += 1


class _Draw:
    """Random choices made from a hash of the caption's index: equal on all machines."""

    def __init__(self, index: int) -> None:
        digest = hashlib.blake2b(f"caption {index}".encode(), digest_size=32).digest()
        self.rest = int.from_bytes(digest, "big")

    def pick(self, options: list[str]) -> str:
        self.rest, choice = divmod(self.rest, len(options))
        return options[choice]
