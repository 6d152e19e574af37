"""What the pictures show: super-categories and their art, places, colours, styles.

A look is one icon of one art set: ("cat", "twemoji", "cat-face"). Every super-category is one
word, and so one token. It has several looks, so that the model learns a family of pictures.
"""

import zlib

# word -> icon names. Every art set is searched for each name; a set may lack some names.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "teddy": ("teddy-bear",),
    "cat": ("cat", "cat-face", "catside"),
    "dog": ("dog", "dog-face", "dogside"),
    "panda": ("panda", "pandaface"),
    "rabbit": ("rabbit", "rabbit-face"),
    "fox": ("fox",),
    "lion": ("lion",),
    "elephant": ("elephant",),
    "penguin": ("penguin",),
    "duck": ("duck",),
    "owl": ("owl",),
    "frog": ("frog",),
    "turtle": ("turtle",),
    "fish": ("fish", "tropical-fish", "tropicalfish", "blowfish"),
    "whale": ("whale", "spouting-whale", "spurtingwhale"),
    "butterfly": ("butterfly",),
    "dinosaur": ("t-rex", "sauropod"),
    "unicorn": ("unicorn",),
    "sunflower": ("sunflower",),
    "tree": ("deciduous-tree", "evergreen-tree", "deciduoustree", "palm-tree", "palmtree"),
    "cactus": ("cactus",),
    "mushroom": ("mushroom", "brown-mushroom"),
    "apple": ("red-apple", "green-apple", "redapple", "greenapple"),
    "strawberry": ("strawberry",),
    "pizza": ("pizza", "sliceofpizza"),
    "cake": ("birthday-cake", "birthdaycake", "shortcake"),
    "donut": ("doughnut",),
    "cup": ("teacup-without-handle", "hot-beverage", "teacupwithouthandle", "hotbeverage"),
    "vase": ("amphora", "funeral-urn"),
    "car": ("automobile", "sport-utility-vehicle", "taxi", "recreationalvehicle", "police-car"),
    "bus": ("bus", "trolleybus", "minibus", "oncoming-bus", "oncomingbus"),
    "rocket": ("rocket",),
    "boat": ("sailboat", "speedboat", "motor-boat", "canoe"),
    "house": ("house", "house-with-garden", "housebuilding", "housewithgarden"),
    "castle": ("castle", "japanese-castle", "europeancastle", "japanesecastle"),
    "hat": ("top-hat", "tophat", "womans-hat", "womanshat", "billed-cap"),
    "crown": ("crown",),
    "shoe": ("mans-shoe", "running-shoe", "hiking-boot", "mensshoe", "athleticshoe"),
    "umbrella": ("umbrella", "umbrella-with-rain-drops", "umbrellawithraindrops"),
    "chair": ("chair",),
    "clock": ("alarm-clock", "mantelpiece-clock", "alarmclock", "mantelclock"),
    "balloon": ("balloon",),
    "gift": ("wrapped-gift", "wrappedpresent"),
    "guitar": ("guitar",),
    "robot": ("robot", "robot-face"),
    "ghost": ("ghost",),
    "snowman": ("snowman", "snowman-without-snow", "snowmanwithoutsnow"),
    "pumpkin": ("jack-o-lantern", "jackolantern"),
    "bear": ("bear", "polar-bear"),
    "monkey": ("monkey", "monkey-face", "monkeyface"),
    "pig": ("pig", "pig-face", "pigside"),
    "tiger": ("tiger", "tiger-face", "tigerside"),
    "chick": ("baby-chick", "front-facing-baby-chick", "babychick", "frontfacingchick"),
    "bee": ("honeybee",),
    "octopus": ("octopus",),
    "crab": ("crab",),
    "rose": ("rose",),
    "banana": ("banana",),
    "burger": ("hamburger",),
    "airplane": ("airplane", "small-airplane"),
    "train": ("train", "high-speed-train", "highspeedtrain", "locomotive"),
    "backpack": ("backpack",),
    "bell": ("bell",),
    "ball": ("soccer-ball", "basketball", "volleyball", "soccerball"),
}
# Subjects that can wear something on the head.
WEARERS = frozenset(
    "teddy cat dog panda rabbit fox lion elephant penguin duck owl frog dinosaur unicorn robot "
    "ghost snowman pumpkin bear monkey pig tiger chick octopus".split()
)
WORN = ("hat", "crown")

# The art sets of iconify's packages. The three-dimensional set has one file per code point.
FLAT_SETS = (
    "noto",
    "noto-v1",
    "fxemoji",
    "twemoji",
    "emojione",
    "fluent-emoji-flat",
    "streamline-emojis",
)
SOLID_SET = "fluent-emoji-3d"
# This set numbers its variants: fox-face-1 is a fox, and birthday-cake-2 is a cake.
NUMBERED_SET = "streamline-emojis"
# Names for which only the numbered and the three-dimensional set are searched.
FURTHER_NAMES: dict[str, tuple[str, ...]] = {
    "backpack": ("school-backpack",),
    "train": ("bullet-train",),
    "ball": ("soccer-ball",),
    "apple": ("red-apple",),
}

# No training sees the three-dimensional look of these subjects.
HELD_OUT_SUBJECTS = (
    "teddy cat dog robot car cup owl hat rabbit penguin house guitar bear train pumpkin fish"
).split()

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 38),
    "orange": (243, 134, 28),
    "yellow": (247, 212, 45),
    "green": (52, 160, 66),
    "blue": (42, 98, 214),
    "purple": (138, 62, 184),
    "pink": (246, 138, 186),
    "brown": (130, 84, 48),
    "black": (44, 44, 48),
    "white": (244, 244, 244),
    "gray": (140, 142, 146),
}

# place -> phrases for it. places.py draws the places.
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "on a beach"),
    "snow": ("in the snow", "in snow"),
    "grass": ("on the grass", "on grass"),
    "night": ("at night", "in the night"),
    "desert": ("in the desert", "in a desert"),
    "sea": ("in the sea", "on the sea"),
    "room": ("in a room", "in the room"),
    "forest": ("in the forest", "in a forest"),
    "city": ("in the city", "in a city"),
    "mountains": ("in the mountains", "near the mountains"),
    "space": ("in space",),
    "sunset": ("at sunset", "in front of a sunset"),
}
STYLES = ("sketch", "painting", "pixel art", "black and white photo")

# The beginnings of captions that personalisation trainers use; "{}" is the subject phrase.
TEMPLATES = (
    "a photo of {}",
    "a photo of {}",
    "a photo of {}",
    "a picture of {}",
    "a good photo of {}",
    "a nice photo of {}",
    "a rendering of {}",
    "a rendition of {}",
    "an image of {}",
    "the photo of {}",
    "{}",
)
# Further words of prompts and of trainers' templates. Each of them is one token.
FURTHER_WORDS = (
    "my one this that these it its cropped close up clean dirty dark bright cool weird large small "
    "big little tiny cute old new toy plush painted drawing cartoon watercolor style depiction "
    "scene of and or with without under behind above below beside between over by from into to at "
    "for is are being there riding holding sitting standing sleeping flying eating playing running "
    "swimming looking top bottom left right center front background foreground plain color colour "
    "colored grey gold golden silver two three many few some animal animals toys thing object food "
    "fruit flower plant vehicle person man woman child glasses sunglasses scarf bow tie table "
    "floor wall street road garden kitchen park river lake sky moon stars sun clouds rain jungle "
    "field water ice fire stone wood wooden glass metal paper made shiny fluffy soft happy sad "
    "funny beautiful detailed high quality studio light shadow morning evening day winter summer "
    "spring autumn cats dogs teddies bears robots cars the s close-up"
).split()


def withheld(subject: str, word: str) -> bool:
    """Return whether no training shows this subject with this place or colour word.

    These pairs are a tenth of all, and serve as held-out prompts.
    """
    return zlib.crc32(f"{subject} {word}".encode()) % 10 == 0
