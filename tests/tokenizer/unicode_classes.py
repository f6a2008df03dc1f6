"""Asks Hugging Face tokenizers for the class of every code point and compares it with the table in tokenizer/classes.c.

    python unicode_classes.py tokenizer/classes.c          says what differs
    python unicode_classes.py --print                      prints the table (clang-format breaks its lines)

Needs `pip install tokenizers` (0.13.3 decides). Letters, numbers and spaces are what its ByteLevel pre-tokenizer splits by; word
characters are what keeps an added token with "single_word" from being found."""
import re
import sys
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

OTHER, LETTER, NUMBER, SPACE, WORD = 0, 1, 2, 3, 4


def classes():
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces = lambda text: len(split.pre_tokenize_str(text))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    finder = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    finder.pre_tokenizer = split
    finder.add_tokens([AddedToken("qq", single_word=True, normalized=False)])
    added = finder.token_to_id("qq")
    found = [OTHER] * 0x110000
    for point in range(1, 0x110000):
        if 0xD800 <= point <= 0xDFFF:
            continue
        c = chr(point)
        kind = LETTER if pieces("a" + c) == 1 else NUMBER if pieces("1" + c) == 1 else OTHER if pieces("!" + c) == 1 else SPACE
        found[point] = kind + (0 if added in finder.encode("qq" + c).ids else WORD)
    return found


def starts(found):
    return [(point, found[point]) for point in range(0x110000) if point == 0 or found[point] != found[point - 1]]


if sys.argv[1] == "--print":
    print(",\n".join(f"0x{point:x}{kind}" for point, kind in starts(classes())))
else:
    table = re.search(r"class_starts\[\] = \{(.*?)\}", open(sys.argv[1]).read(), re.S).group(1)
    ours = [(int(n[:-1], 16), int(n[-1])) for n in re.findall(r"0x([0-9a-f]+)", table)]
    found, differ = classes(), 0
    for (first, kind), (end, _) in zip(ours, ours[1:] + [(0x110000, 0)]):
        for point in range(first, end):
            if found[point] != kind:
                print(f"U+{point:04X}: {kind} in the table, {found[point]} in tokenizers")
                differ += 1
    print(f"{differ} code points differ")
    sys.exit(differ > 0)
