"""Reads the event files of a run as TensorBoard does, by the description of the format alone, and compares the numbers with
metrics.jsonl. argv: RUN."""
import glob
import json
import math
import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def records(path, may_be_cut):
    data, at = open(path, "rb").read(), 0
    while at < len(data):
        whole = at + 12 <= len(data)
        if whole:
            (size,) = struct.unpack_from("<Q", data, at)
            whole = at + 16 + size <= len(data)
        if not whole:
            if not may_be_cut:
                sys.exit(f"{path} ends within a record")
            return
        payload = data[at + 12 : at + 12 + size]
        if struct.unpack_from("<I", data, at + 8)[0] != masked(data[at : at + 8]):
            sys.exit(f"{path}: wrong checksum of a length")
        if size < 65536 and struct.unpack_from("<I", data, at + 12 + size)[0] != masked(payload):
            sys.exit(f"{path}: wrong checksum of a record")
        yield payload
        at += 16 + size


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        yield key >> 3, value


run = sys.argv[1]
paths = sorted(glob.glob(f"{run}/events.out.tfevents.*"))
shown, pictures = {}, {}
for path in paths:
    events = [dict(fields(record)) for record in records(path, path != paths[-1])]
    if events and events[0].get(3) != b"brain.Event:2":
        sys.exit(f"{path} does not begin with its version")
    for event in events:
        step = event.get(2, 0)
        if 7 in event:  # a session that starts here: what was said of later steps is forgotten
            shown = {key: value for key, value in shown.items() if key[1] < step}
            pictures = {key: value for key, value in pictures.items() if key < step}
        for _, value in fields(event.get(5, b"")):
            value = dict(fields(value))
            if 2 in value:
                if (value[1].decode(), step) in shown:
                    sys.exit(f"{value[1]} of step {step} is there twice")
                shown[value[1].decode(), step] = struct.unpack("<f", value[2])[0]
            if 4 in value:
                pictures[step] = dict(fields(value[4]))[4]

compared = 0
for line in map(json.loads, open(f"{run}/metrics.jsonl")):
    for key, value in line.items():
        if key != "step":
            found = shown.pop((key, line["step"]), None)
            value = math.nan if value is None else value  # JSON has no NaN
            same = found is not None and (math.isnan(found) and math.isnan(value) or math.isclose(found, value, rel_tol=1e-6))
            if not same:
                sys.exit(f"{key} of step {line['step']} is {found}, not {value}")
            compared += 1
if [key for key in shown if "norms/" not in key[0]]:
    sys.exit(f"only in the events: {shown}")
for step, picture in pictures.items():
    if open(f"{run}/samples/{step:08}.png", "rb").read() != picture:
        sys.exit(f"the picture of step {step} is another one")
if not compared:
    sys.exit("nothing to compare")
print(f"{run}: {compared} numbers, {len(shown)} norms and {len(pictures)} pictures in {len(paths)} event files")
