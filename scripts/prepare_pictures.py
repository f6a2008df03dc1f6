#!/usr/bin/python3
"""Makes real captioned pictures from Debian's own packages, as lists that limn-download reads.

    prepare_pictures.py --output DIR [--set small|large] [--limit N] [--keywords]

DIR/pictures/*.png   the pictures, on transparent or white ground
DIR/train.tsv        caption, url (file://...), group, subgroup, kind; with a header line
DIR/kept.tsv         the same, of pictures kept out of training: a tenth of the combinations of a person or gesture with a
                     skin tone. Both parts of each occur in other pictures that are in training.

small   what a small model learns in some minutes: hearts and shapes in all colours, gestures and people in five skin tones,
        faces, animals, food and drink. --limit says how many pictures in all.
large   every emoji, and the photos and drawings with sentences of tuxpaint-stamps-default.

The same options give the same files. A second run draws only what is missing.

Needs the packages python3-pil, fonts-noto-color-emoji and unicode-data; for --keywords unicode-cldr-core; for the large set
tuxpaint-stamps-default.
"""

import argparse
import os
import pathlib
import re
import sys
import time
import xml.etree.ElementTree

try:
    from PIL import Image, ImageDraw, ImageFont, features
except ImportError:
    sys.exit("prepare_pictures: Python has no Pillow: apt-get install python3-pil, and run with /usr/bin/python3")

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_LIST = "/usr/share/unicode/emoji/emoji-test.txt"
ANNOTATIONS = "/usr/share/unicode/cldr/common/annotations/en.xml"
STAMPS = "/usr/share/tuxpaint/stamps"
FONT_SIZE = 109  # the only size of the font's bitmaps
STAMP_SIDE = 512  # longer sides are shrunk to this
COLUMNS = ["caption", "url", "group", "subgroup", "kind"]

# The small set. A name here stands for itself and its five skin tones.
GESTURES = ["thumbs up", "thumbs down", "raised fist", "OK hand", "victory hand", "waving hand", "raised hand",
            "clapping hands"]
PEOPLE = ["baby", "man", "woman", "old man", "old woman"]
PROFESSIONS = ["man cook", "woman cook", "man firefighter", "woman firefighter"]
KINDS = [  # kind, test of a subgroup
    ("heart", lambda s: s == "heart"),
    ("shape", lambda s: s == "geometric"),
    ("face", lambda s: s.startswith("face-") or s in ("cat-face", "monkey-face", "emotion")),
    ("animal", lambda s: s.startswith("animal-") or s == "plant-flower"),
    ("food", lambda s: s.startswith("food-") or s == "drink"),
]


class Emoji:
    """A fully-qualified row of emoji-test.txt."""

    def __init__(self, text, name, group, subgroup):
        self.text, self.name, self.group, self.subgroup = text, name, group, subgroup
        # "woman: dark skin tone, red hair" is "woman: red hair" in dark.
        head, _, tail = name.partition(": ")
        parts = [part for part in tail.split(", ") if part]
        rest = [part for part in parts if not part.endswith("skin tone")]
        self.toned = len(rest) < len(parts)
        self.base = head + (": " + ", ".join(rest) if rest else "")
        self.kind = next((kind for kind, test in KINDS if test(subgroup)), "other")
        if group == "People & Body":
            self.kind = "gesture" if subgroup.startswith("hand") else "person"

    def file_name(self):
        return "-".join("%x" % ord(character) for character in self.text) + ".png"


def read_emoji(path):
    row = re.compile(r"^([0-9A-F ]+?) *; fully-qualified +# \S+ E[0-9.]+ (.+)$")
    found, group, subgroup = [], "", ""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if line.startswith("# group: "):
                group = line[len("# group: "):]
            elif line.startswith("# subgroup: "):
                subgroup = line[len("# subgroup: "):]
            match = row.match(line)
            if match:
                text = "".join(chr(int(code, 16)) for code in match[1].split())
                found.append(Emoji(text, match[2], group, subgroup))
    if not found:
        sys.exit("prepare_pictures: %s has no fully-qualified emoji: is it another file?" % path)
    return found


def read_keywords(path):
    """Emoji (without variation selectors) to its keywords."""
    root = xml.etree.ElementTree.parse(path).getroot()
    keywords = {}
    for annotation in root.iter("annotation"):
        if annotation.get("type") is None and annotation.text:
            words = [word.strip() for word in annotation.text.split("|")]
            keywords[annotation.get("cp")] = ", ".join(words)
    return keywords


def interleave(lists):
    """One list in which each of the lists is spread evenly, so that any beginning of it has some of all."""
    ranked = [((index + 1) / len(part), which, item) for which, part in enumerate(lists) for index, item in enumerate(part)]
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])]


def choose_small(all_emoji, limit):
    by_base = {}
    for emoji in all_emoji:
        by_base.setdefault(emoji.base, []).append(emoji)
    chosen = [emoji for emoji in all_emoji if emoji.kind == "heart"]
    chosen += [emoji for emoji in all_emoji if emoji.kind == "shape" and "small" not in emoji.name]
    for name in GESTURES + PEOPLE + PROFESSIONS:
        if len(by_base.get(name, [])) != 6:
            sys.exit("prepare_pictures: %s has not \"%s\" in five skin tones" % (EMOJI_LIST, name))
        chosen += by_base[name]
    chosen += [emoji for emoji in all_emoji if emoji.name in ("red apple", "grinning face")]
    if limit < len(chosen):
        sys.exit("prepare_pictures: --limit %d is less than the %d pictures the small set cannot do without"
                 % (limit, len(chosen)))
    rest = [[emoji for emoji in all_emoji if emoji.kind == kind and emoji not in chosen]
            for kind in ("face", "animal", "food")]
    return chosen + interleave(rest)


def choose_kept(emoji_chosen):
    """A tenth of all combinations with a skin tone, never more than that of one person or gesture."""
    by_base = {}
    for emoji in emoji_chosen:
        if emoji.toned:
            by_base.setdefault(emoji.base, []).append(emoji)
    kept, owed = set(), 0.0
    for variants in by_base.values():
        owed += len(variants) / 10
        while owed >= 1:
            # Steps of two visit all five tones, and all 25 of a couple.
            kept.add(variants[2 * len(kept) % len(variants)].name)
            owed -= 1
    return kept


class Pen:
    """Draws emoji, and tells which the font cannot draw as one glyph."""

    def __init__(self, path):
        if not features.check("raqm"):
            print("prepare_pictures: this Pillow has no raqm: emoji of several code points are left out", file=sys.stderr)
        self.font = ImageFont.truetype(path, FONT_SIZE)
        self.width = self.font.getlength("\U0001F600")
        box = self.font.getbbox("\U0001F600")
        self.box = (box[2], box[3])
        self.missing = self.pixels("\U0010FFFD").tobytes()

    def pixels(self, text):
        sheet = Image.new("RGBA", self.box, (255, 255, 255, 0))
        ImageDraw.Draw(sheet).text((0, 0), text, font=self.font, embedded_color=True)
        return sheet

    def draw(self, text):
        """A square picture, or None."""
        if abs(self.font.getlength(text) - self.width) > 1:
            return None
        drawn = self.pixels(text)
        if drawn.getchannel("A").getextrema()[1] == 0 or drawn.tobytes() == self.missing:
            return None
        left, top, right, bottom = drawn.getbbox()
        # The font's bitmaps are 136 x 128 with the drawing in the middle 128 columns, which halve to 64 pixel by pixel.
        side = min(drawn.size)
        across, down = (drawn.width - side) // 2, (drawn.height - side) // 2
        if left < across or top < down or right > across + side or bottom > down + side:
            side = max(drawn.size)
            across, down = (drawn.width - side) // 2, (drawn.height - side) // 2
        square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
        square.paste(drawn, (-across, -down))
        return square


def square_stamp(path):
    """A stamp on a white square, shrunk to STAMP_SIDE where it is larger."""
    with Image.open(path) as opened:
        stamp = opened.convert("RGBA")
    if max(stamp.size) > STAMP_SIDE:
        stamp.thumbnail((STAMP_SIDE, STAMP_SIDE), Image.Resampling.LANCZOS)
    side = max(stamp.size)
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2), stamp)
    return square


def save_whole(picture, path):
    """A picture that is there is whole: a killed run leaves only a hidden temporary."""
    temporary = path.with_name(".%s.tmp-%d" % (path.name, os.getpid()))
    picture.save(temporary, "PNG")
    os.replace(temporary, path)


def write_list(path, rows):
    temporary = path.with_name(".%s.tmp-%d" % (path.name, os.getpid()))
    with open(temporary, "w", encoding="utf-8") as out:
        for row in [COLUMNS] + rows:
            out.write("\t".join(re.sub(r"\s+", " ", cell).strip() for cell in row) + "\n")
    os.replace(temporary, path)


class Progress:
    def __init__(self, total):
        self.total, self.done = total, 0
        self.start = self.shown = time.monotonic()

    def step(self):
        self.done += 1
        now = time.monotonic()
        last = self.done == self.total
        terminal = sys.stderr.isatty()
        if not last and now - self.shown < (0.2 if terminal else 30):
            return
        self.shown = now
        rate = self.done / max(now - self.start, 1e-9)
        text = "prepare_pictures: %d of %d pictures, %.0f/s, %.0f s left" % (
            self.done, self.total, rate, (self.total - self.done) / rate)
        print("\r\x1b[K" + text if terminal else text, end="\n" if last or not terminal else "", file=sys.stderr, flush=True)


def draw_emoji(all_emoji, pen, folder, limit, progress):
    """Those that could be drawn, at most `limit`."""
    drawn = []
    for emoji in all_emoji:
        if len(drawn) == limit:
            break
        path = folder / emoji.file_name()
        if not path.exists():
            picture = pen.draw(emoji.text)
            if picture is None:
                continue
            save_whole(picture, path)
        drawn.append(emoji)
        progress.step()
    return drawn


def draw_stamps(paths, root, folder, progress):
    """Rows of the stamps that have a sentence."""
    rows = []
    for path in paths:
        progress.step()
        try:
            with open(path.with_suffix(".txt"), encoding="utf-8") as text:
                sentence = text.readline().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if not sentence:
            continue
        parts = path.relative_to(root).with_suffix("").parts
        target = folder / ("stamp-" + "-".join(parts) + ".png")
        if not target.exists():
            save_whole(square_stamp(path), target)
        rows.append([sentence, target.as_uri(), "stamps", "/".join(parts[:-1]), "stamp"])
    return rows


def need(path, package):
    if not os.path.exists(path):
        sys.exit("prepare_pictures: %s is missing: apt-get install %s" % (path, package))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument("--set", choices=["small", "large"], default="small")
    parser.add_argument("--limit", type=int, metavar="N", help="emoji in all, those kept included (small: 540; large: all)")
    parser.add_argument("--keywords", action="store_true", help="a second row for each emoji in training, with its keywords as the caption")
    options = parser.parse_args()
    need(FONT, "fonts-noto-color-emoji")
    need(EMOJI_LIST, "unicode-data")
    if options.keywords:
        need(ANNOTATIONS, "unicode-cldr-core")
    if options.set == "large":
        need(STAMPS, "tuxpaint-stamps-default")

    output = pathlib.Path(options.output).resolve()
    folder = output / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for left in list(folder.glob(".*.tmp-*")) + list(output.glob(".*.tmp-*")):
        left.unlink()  # of a run that was killed

    emoji = read_emoji(EMOJI_LIST)
    stamps = []
    if options.set == "small":
        limit = 540 if options.limit is None else options.limit
        emoji = choose_small(emoji, limit)
        limit = min(limit, len(emoji))
    else:
        limit = len(emoji) if options.limit is None else min(options.limit, len(emoji))
        stamps = sorted(pathlib.Path(STAMPS).rglob("*.png"))
    progress = Progress(limit + len(stamps))
    drawn = draw_emoji(emoji, Pen(FONT), folder, limit, progress)
    kept_names = choose_kept(drawn)
    keywords = read_keywords(ANNOTATIONS) if options.keywords else {}
    train, kept = [], []
    for one in drawn:
        row = [one.name, (folder / one.file_name()).as_uri(), one.group, one.subgroup, one.kind]
        if one.name in kept_names:
            kept.append(row)
            continue
        train.append(row)
        words = keywords.get(one.text.replace("\ufe0f", ""))
        if words:
            train.append([words] + row[1:])
    train += draw_stamps(stamps, STAMPS, folder, progress)
    write_list(output / "train.tsv", train)
    write_list(output / "kept.tsv", kept)
    print("prepare_pictures: %d rows in %s, %d in %s" % (len(train), output / "train.tsv", len(kept), output / "kept.tsv"),
          file=sys.stderr)


if __name__ == "__main__":
    main()
