"""Prints what TensorBoard reads in a folder: scalars and histograms by tag, as JSON."""

import json
import sys

from tensorboard.backend.event_processing import event_accumulator

everything = {"scalars": 0, "histograms": 0}
events = event_accumulator.EventAccumulator(sys.argv[1], size_guidance=everything).Reload()
tags = events.Tags()
scalars = {tag: [[e.step, e.wall_time, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]}
histograms = {
    tag: [{"step": e.step, **e.histogram_value.__dict__} for e in events.Histograms(tag)] for tag in tags["histograms"]
}
json.dump({"scalars": scalars, "histograms": histograms}, sys.stdout)
