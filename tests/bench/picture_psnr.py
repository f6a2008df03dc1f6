"""PSNR of the pictures that limn-download wrote (256 px, centre crop) against a full decode resampled with Lanczos by Pillow.
argv: OUTPUT_DIR PICTURES_DIR [LIMIT], where the pictures' addresses end with their file names in PICTURES_DIR."""
import glob
import io
import json
import math
import os
import sys
import tarfile

from PIL import Image, ImageChops, ImageStat

output, pictures = sys.argv[1], sys.argv[2]
limit = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
values = []
for path in sorted(glob.glob(f"{output}/*.tar")):
    with tarfile.open(path) as tar:
        for entry in tar:
            if len(values) == limit:
                break
            if entry.name.endswith(".jpg"):
                ours = Image.open(io.BytesIO(tar.extractfile(entry).read())).convert("RGB")
            if entry.name.endswith(".json"):
                name = os.path.basename(json.load(tar.extractfile(entry))["url"])
                full = Image.open(f"{pictures}/{name}").convert("RGB")
                k = 256 / min(full.size)
                full = full.resize((round(full.size[0] * k), round(full.size[1] * k)), Image.LANCZOS)
                left, top = (full.size[0] - 256) // 2, (full.size[1] - 256) // 2
                full = full.crop((left, top, left + 256, top + 256))
                error = sum(ImageStat.Stat(ImageChops.difference(ours, full)).sum2) / (3 * 256 * 256)
                values.append(10 * math.log10(255 * 255 / error) if error else 99.0)
print(f"PSNR of {len(values)} pictures against a full decode with Lanczos: mean {sum(values) / len(values):.2f} dB, "
      f"least {min(values):.2f} dB")
