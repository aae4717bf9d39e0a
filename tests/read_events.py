"""Prints what TensorBoard reads in a folder: scalars, histograms and images by tag, as JSON."""

import base64
import json
import sys

from tensorboard.backend.event_processing import event_accumulator

everything = {"scalars": 0, "histograms": 0, "images": 0}
events = event_accumulator.EventAccumulator(sys.argv[1], size_guidance=everything).Reload()
tags = events.Tags()
scalars = {tag: [[e.step, e.wall_time, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]}
histograms = {
    tag: [{"step": e.step, **e.histogram_value.__dict__} for e in events.Histograms(tag)] for tag in tags["histograms"]
}
images = {
    tag: [[e.step, e.height, e.width, base64.b64encode(e.encoded_image_string).decode()] for e in events.Images(tag)]
    for tag in tags["images"]
}
json.dump({"scalars": scalars, "histograms": histograms, "images": images}, sys.stdout)
