#!/usr/bin/python3
"""scripts/prepare_pictures.py: what its lists promise. Exit code 77 where Debian's packages are not there."""

import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.parse

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "prepare_pictures.py"
NEEDED = ["/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", "/usr/share/unicode/emoji/emoji-test.txt"]


def run(folder, *options):
    return subprocess.run(["/usr/bin/python3", str(SCRIPT), "--output", str(folder), *options], stderr=subprocess.PIPE, text=True)


def read(path):
    header, *rows = [line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8")]
    assert header == ["caption", "url", "group", "subgroup", "kind"], header
    assert all(len(row) == len(header) for row in rows)
    return [dict(zip(header, row)) for row in rows]


def parts(caption):
    head, _, tail = caption.partition(": ")
    return {head} | {tone for tone in tail.split(", ") if tone.endswith("skin tone")}


def main():
    from PIL import Image
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = run(folder, "--limit", "300")
        assert made.returncode == 0, made.stderr
        train, kept = read(folder / "train.tsv"), read(folder / "kept.tsv")
        assert len(train) + len(kept) == 300
        captions = {row["caption"] for row in train}
        assert len(captions) == len(train), "a caption twice"
        assert {"red apple", "grinning face", "blue heart", "red heart", "blue square"} <= captions
        assert {"face", "animal", "food", "heart", "shape", "gesture", "person"} <= {row["kind"] for row in train}
        assert len(kept) >= 5
        known = set().union(*(parts(caption) for caption in captions))
        for row in kept:
            assert row["caption"] not in captions and parts(row["caption"]) <= known, row
        for row in train + kept:
            url = urllib.parse.urlparse(row["url"])
            assert url.scheme == "file"
            with Image.open(urllib.parse.unquote(url.path)) as picture:
                assert picture.size == (128, 128)
        apple = next(row for row in train if row["caption"] == "red apple")
        with Image.open(urllib.parse.urlparse(apple["url"]).path) as picture:
            red, green, blue, alpha = picture.getpixel((64, 80))
            assert alpha == 255 and red > 150 and green < 100 and blue < 100, "the red apple is not red"

        # A second run draws what is missing, and nothing else; the lists are the same to the byte.
        lists = [(folder / name).read_bytes() for name in ("train.tsv", "kept.tsv")]
        pictures = sorted((folder / "pictures").iterdir())
        first = pictures[0].read_bytes()
        os.unlink(pictures[0])
        before = {path: path.stat().st_mtime_ns for path in pictures[1:]}
        (folder / "pictures" / ".1f600.png.tmp-1").write_bytes(b"left by a killed run")
        assert run(folder, "--limit", "300").returncode == 0
        assert sorted((folder / "pictures").iterdir()) == pictures
        assert pictures[0].read_bytes() == first
        assert {path: path.stat().st_mtime_ns for path in pictures[1:]} == before
        assert [(folder / name).read_bytes() for name in ("train.tsv", "kept.tsv")] == lists

        refused = run(folder, "--limit", "10")
        assert refused.returncode == 1 and "--limit 10" in refused.stderr, refused.stderr


if __name__ == "__main__":
    if not all(os.path.exists(path) for path in NEEDED):
        print("skipped: needs the packages fonts-noto-color-emoji and unicode-data")
        sys.exit(77)
    try:
        import PIL  # noqa: F401
    except ImportError:
        print("skipped: needs the package python3-pil")
        sys.exit(77)
    main()
