"""Weights files as other libraries write them, for the tests of `learner/src/weights`.

Needs torch (2.2.2 was used, which still writes the format from before 1.6) and onnx (1.23.2):
    python tests/weights/generate.py tests/weights
"""
import argparse
import collections
import pathlib
import sys

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

OUT = pathlib.Path(sys.argv[1])


def values(*shape, dtype=torch.float32):
    """0, 0.5, 1, ...: exact in every type."""
    count = int(np.prod(shape))
    return (torch.arange(count, dtype=torch.float32) / 2).to(dtype).reshape(shape)


def checkpoint():
    """What a training script saves: the model's state, the optimizer's, and things that are no tensors."""
    net = torch.nn.Linear(3, 2)
    net.weight.data = values(2, 3)
    net.bias.data = values(2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    net.weight.data = values(2, 3)
    net.bias.data = values(2)
    state = net.state_dict()
    whole = values(4, 3)
    extra = collections.OrderedDict(
        half=values(2, 2, dtype=torch.float16),
        bfloat=values(2, 2, dtype=torch.bfloat16),
        double=values(3, dtype=torch.float64),
        count=torch.tensor(7),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        transposed=values(2, 3).t(),
        whole=whole,
        rows=whole[1:3],
        every_other_column=whole[:, ::2],
        parameter=torch.nn.Parameter(values(3)),
    )
    return {
        "model": state,
        "extra": extra,
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "lr": 0.1,
        "name": "tiny",
        "best": np.float64(0.5),
        "args": argparse.Namespace(batch=8, layers=[1, 2], device=torch.device("cpu")),
        "list": [values(1)],
        "none": None,
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "names": {"one"},
    }


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(3, 2)
        self.norm = torch.nn.LayerNorm(2)
        self.fc1.weight.data = values(2, 3)
        self.fc1.bias.data = values(2)

    def forward(self, x):
        return self.norm(self.fc1(x))


def torch_files():
    torch.save(checkpoint(), OUT / "checkpoint.pth")
    torch.save(checkpoint(), OUT / "checkpoint_old.pth", _use_new_zipfile_serialization=False)
    torch.save(checkpoint()["model"], OUT / "protocol4.pth", pickle_protocol=4)
    torch.save({"w": values(2)}, OUT / "old_protocol4.pth", pickle_protocol=4, _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(3, 2), OUT / "module.pth")
    torch.jit.script(Net()).save(str(OUT / "script.pt"))
    torch.onnx.export(Net(), torch.ones(1, 4, 3), str(OUT / "exported.onnx"), do_constant_folding=True)


def onnx_files():
    array = np.arange(6, dtype=np.float32).reshape(2, 3) / 2
    raw = [onnx.numpy_helper.from_array(array.astype(kind), str(np.dtype(kind))) for kind in ("f4", "f2", "f8", "i8")]
    fields = [
        helper.make_tensor("field.float32", TensorProto.FLOAT, (2, 3), array.ravel()),
        helper.make_tensor("field.float16", TensorProto.FLOAT16, (2, 3), array.ravel()),
        helper.make_tensor("field.bfloat16", TensorProto.BFLOAT16, (2, 3), array.ravel()),
        helper.make_tensor("field.float64", TensorProto.DOUBLE, (2, 3), array.ravel()),
        helper.make_tensor("field.scalar", TensorProto.FLOAT, (), [2.5]),
    ]
    kernel = onnx.numpy_helper.from_array(array, "onnx::MatMul_9")
    constant = onnx.numpy_helper.from_array(array, "onnx::Concat_1")
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_9"], ["y"], "/encoder/layer.0/fc1/MatMul"),
        helper.make_node("Concat", ["onnx::Concat_1", "y"], ["z"], "/embeddings/Concat_6", axis=0),
    ]
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "tiny", [info("x")], [info("z")], raw + fields + [kernel, constant])
    model = helper.make_model(graph)
    onnx.save(model, OUT / "model.onnx")
    onnx.save(model, OUT / "external.onnx", save_as_external_data=True, location="external.bin", size_threshold=16)


torch.manual_seed(0)
torch_files()
onnx_files()
