"""Networks of known architectures as ONNX models with seeded weights, written node by node with the onnx package.

`width` scales their channels: small ones for quick tests, 1 for the real thing.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["ARCHITECTURES"]


class Writer:
    def __init__(self, name, opset=17, seed=0):
        self.name, self.opset, self.rng = name, opset, np.random.default_rng(seed)
        self.nodes, self.weights, self.channels = [], [], {"x": 3}

    def weight(self, *shape, scale=1.0, shift=0.0):
        name = f"w{len(self.weights)}"
        array = (self.rng.standard_normal(shape) * scale + shift).astype("f")
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def given(self, values, dtype):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(self, op, *inputs, channels=None, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        self.channels[name] = self.channels.get(inputs[0]) if channels is None else channels
        return name

    def conv(self, x, channels, kernel, stride=1, pad=None, groups=1, bias=False, act=None, norm=True):
        c = self.channels[x]
        pad = (kernel - 1) // 2 if pad is None else pad
        inputs = [x, self.weight(channels, c // groups, kernel, kernel, scale=(2 / (c // groups * kernel**2)) ** 0.5)]
        if bias or not norm:
            inputs.append(self.weight(channels, scale=0.1))
        size = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
        x = self.add("Conv", *inputs, channels=channels, **size)
        if norm:
            x = self.norm(x)
        return self.act(x, act)

    def norm(self, x):
        c = self.channels[x]
        parts = [self.weight(c, scale=0.1, shift=s) for s in (1, 0, 0)] + [self.weight(c, scale=0.05, shift=1)]
        return self.add("BatchNormalization", x, *parts, epsilon=1e-5)

    def act(self, x, act):
        if act == "relu":
            return self.add("Relu", x)
        if act == "relu6":
            return self.add("Clip", x, self.given(0, "f"), self.given(6, "f"))
        if act == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        return x

    def dense(self, x, size, features):
        w = self.weight(size, features, scale=(1 / features) ** 0.5)
        return self.add("Gemm", x, w, self.weight(size, scale=0.1), transB=1, channels=size)

    def model(self, *outputs, size):
        shape = ["batch", 3, size, size]
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, s) for y, s in outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def resnet(blocks, bottleneck, width, size):
    n = Writer("resnet")
    scaled = [max(int(c * width), 4) for c in (64, 128, 256, 512)]
    x = n.conv("x", scaled[0], 7, 2, act="relu")
    x = n.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, (count, c) in enumerate(zip(blocks, scaled, strict=True)):
        for block in range(count):
            stride = 2 if stage and not block else 1
            out = 4 * c if bottleneck else c
            if bottleneck:
                y = n.conv(n.conv(n.conv(x, c, 1, act="relu"), c, 3, stride, act="relu"), out, 1)
            else:
                y = n.conv(n.conv(x, c, 3, stride, act="relu"), out, 3)
            if stride > 1 or n.channels[x] != out:
                x = n.conv(x, out, 1, stride)
            x = n.act(n.add("Add", y, x), "relu")
    x = n.add("Flatten", n.add("GlobalAveragePool", x))
    y = n.dense(x, 1000 if width == 1 else 10, out)
    return n.model((y, ["batch", n.channels[y]]), size=size)


def vgg16(width, size):
    n = Writer("vgg16", opset=9)
    x = "x"
    for count, c in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            x = n.conv(x, max(int(c * width), 4), 3, act="relu", norm=False)
        x = n.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    features = n.channels[x] * (size // 32) ** 2
    x = n.add("Reshape", x, n.given([0, -1], "int64"))
    for out in (4096, 4096):
        out = max(int(out * width), 8)
        x, features = n.add("Dropout", n.act(n.dense(x, out, features), "relu"), ratio=0.5), out
    y = n.dense(x, 1000 if width == 1 else 10, features)
    return n.model((y, ["batch", n.channels[y]]), size=size)


def squeezenet(width, size):
    n = Writer("squeezenet", opset=11)
    x = n.conv("x", max(int(64 * width), 4), 3, 2, 0, act="relu", norm=False)
    for number, c in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if number in (0, 2, 4):
            x = n.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=0)
        c = max(int(c * width), 2)
        s = n.conv(x, c, 1, act="relu", norm=False)
        parts = [n.conv(s, 4 * c, k, act="relu", norm=False) for k in (1, 3)]
        x = n.add("Concat", *parts, axis=1, channels=8 * c)
    x = n.conv(x, 10 if width < 1 else 1000, 1, act="relu", norm=False)
    y = n.add("Softmax", n.add("Flatten", n.add("GlobalAveragePool", x)), axis=1)
    return n.model((y, ["batch", n.channels[y]]), size=size)


def mobilenet_v2(width, size):
    n = Writer("mobilenet_v2", opset=15)
    x = n.conv("x", max(int(32 * width), 4), 3, 2, act="relu6")
    for t, c, count, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip  # noqa: E501
        for block in range(count):
            before, c_out, stride = n.channels[x], max(int(c * width), 4), s if not block else 1
            y = n.conv(x, before * t, 1, act="relu6") if t > 1 else x
            y = n.conv(y, before * t, 3, stride, groups=before * t, act="relu6")
            y = n.conv(y, c_out, 1)
            x = n.add("Add", x, y) if stride == 1 and before == c_out else y
    x = n.conv(x, max(int(1280 * width), 8), 1, act="relu6")
    features = n.channels[x]
    x = n.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    y = n.dense(x, 10 if width < 1 else 1000, features)
    return n.model((y, ["batch", n.channels[y]]), size=size)


def efficientnet_b0(width, size):
    n = Writer("efficientnet", opset=17)
    x = n.conv("x", max(int(32 * width), 4), 3, 2, act="silu")
    for t, c, count, s, k in ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)):  # fmt: skip  # noqa: E501
        for block in range(count):
            before, out, stride = n.channels[x], max(int(c * width), 4), s if not block else 1
            y = n.conv(x, before * t, 1, act="silu") if t > 1 else x
            y = n.conv(y, before * t, k, stride, groups=before * t, act="silu")
            squeezed = n.add("GlobalAveragePool", y)
            squeezed = n.conv(squeezed, max(before // 4, 1), 1, act="silu", norm=False)
            squeezed = n.add("Sigmoid", n.conv(squeezed, before * t, 1, norm=False))
            y = n.conv(n.add("Mul", y, squeezed), out, 1)
            x = n.add("Add", y, x) if stride == 1 and before == out else y
    x = n.conv(x, max(int(1280 * width), 8), 1, act="silu")
    features = n.channels[x]
    y = n.dense(n.add("Flatten", n.add("GlobalAveragePool", x)), 10 if width < 1 else 1000, features)
    return n.model((y, ["batch", n.channels[y]]), size=size)


def unet(width, size):
    """Transposed convolutions on two levels, Resize on the others, and shape arithmetic as exporters write it."""
    n = Writer("unet", opset=16)
    widths = [max(int(c * width), 2) for c in (32, 64, 128, 256)]
    x, skips = "x", []
    for c in widths[:-1]:
        x = n.conv(n.conv(x, c, 3, act="relu"), c, 3, act="relu")
        skips.append(x)
        x = n.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = n.conv(x, widths[-1], 3, act="relu")
    for level, (c, skip) in enumerate(zip(reversed(widths[:-1]), reversed(skips), strict=True)):
        if level < 2:
            w = n.weight(n.channels[x], c, 2, 2, scale=0.1)
            x = n.add("ConvTranspose", x, w, n.weight(c), channels=c, kernel_shape=[2, 2], strides=[2, 2])
        else:
            shape = n.add("Shape", skip)
            last = n.add("Slice", shape, n.given([2], "int64"), n.given([4], "int64"))
            first = n.add("Slice", n.add("Shape", x), n.given([0], "int64"), n.given([2], "int64"))
            sizes = n.add("Concat", first, last, axis=0)
            x = n.add("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
        x = n.add("Concat", skip, x, axis=1, channels=n.channels[skip] + n.channels[x])
        x = n.act(
            n.add("InstanceNormalization", n.conv(x, c, 3, norm=False), n.weight(c, shift=1), n.weight(c)), "relu"
        )
    y = n.add("Sigmoid", n.conv(x, 1, 1, norm=False))
    edges = n.add("Tanh", n.add("LeakyRelu", n.conv(x, 2, 3, norm=False), alpha=0.1))
    return n.model((y, ["batch", 1, size, size]), (edges, ["batch", 2, size, size]), size=size)


ARCHITECTURES = {
    "resnet18": lambda width, size: resnet((2, 2, 2, 2), False, width, size),
    "resnet50": lambda width, size: resnet((3, 4, 6, 3), True, width, size),
    "vgg16": vgg16,
    "squeezenet": squeezenet,
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_b0": efficientnet_b0,
    "unet": unet,
}
"""By name; each takes a width (1 for the real one) and the side of its input."""
