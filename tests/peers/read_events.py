"""Reads the event files of a run with TensorBoard's own code and compares them with metrics.jsonl. argv: RUN."""
import io
import json
import math
import sys

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.util import tensor_util

run = sys.argv[1]
events = plugin_event_accumulator.EventAccumulator(run, size_guidance={"tensors": 0})
events.Reload()
lines = [json.loads(line) for line in open(f"{run}/metrics.jsonl")]
found = {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}

for key in {key for line in lines for key in line} - {"step"}:
    written = [(line["step"], math.nan if line[key] is None else line[key]) for line in lines if key in line]
    shown = [(event.step, float(tensor_util.make_ndarray(event.tensor_proto))) for event in found[key]]
    if [step for step, _ in written] != [step for step, _ in shown]:
        sys.exit(f"{key}: steps {shown} instead of {written}")
    if not np.allclose([value for _, value in written], [value for _, value in shown], rtol=1e-6, equal_nan=True):
        sys.exit(f"{key}: {shown} instead of {written}")

groups = {tag.split("/")[1] for tag in found if tag.startswith("gradient norms/")}
if len(groups) < 3 or groups != {tag.split("/")[1] for tag in found if tag.startswith("update norms/")}:
    sys.exit(f"groups {groups} in {sorted(found)}")
for tag in found:
    if "norms/" in tag and not any(float(tensor_util.make_ndarray(event.tensor_proto)) > 0 for event in found[tag]):
        sys.exit(f"{tag} is always zero")
config = str(tensor_util.make_ndarray(found["config"][0].tensor_proto))
if "d_model" not in config and "n_embed" not in config:
    sys.exit("the configuration is not shown")
for event in found.get("samples", []):
    width, height, picture = tensor_util.make_ndarray(event.tensor_proto)
    if Image.open(io.BytesIO(picture)).size != (int(width), int(height)):
        sys.exit("a picture has another size than is said")
print(f"{run}: {len(found)} tags, {len(lines)} lines, {len(groups)} groups of layers")
