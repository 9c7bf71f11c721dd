"""A ResNet-18 on a photograph: its layers, the kernels of its first one, and what they find.

    python 08_look_inside.py [WEIGHTS]

WEIGHTS is a .safetensors, .pth or .npz file with torchvision's names, or tv_in1k, which fetches torchvision's from the
hub. Without it the weights are random: there is less to see, but every number is computed in the same way.
"""

import sys

import numpy as np

from starconv import nets, view
from starconv.data.images import astronaut

weights = sys.argv[1] if len(sys.argv) > 1 else None
network = nets.resnet18(weights, seed=0)
x = nets.preprocess(astronaut())  # scaled, cut to 224 x 224, normalised, as torchvision does it
print(network)
print(*str(network.summary(x.shape)).splitlines()[:6], sep="\n")

scores = network(x)[0]
shares = np.exp(scores - scores.max())
shares /= shares.sum()
if weights is not None:
    for number in np.argsort(-shares)[:5]:
        print(f"{100 * shares[number]:6.2f} %  {nets.imagenet_classes()[number]}")

view.filters(network.layers["conv1"].kernels, "conv1", kernels=range(16)).save("filters.png")
maps = network.feature_maps(x, ["conv1", "layer1.1.relu_1", "layer4.1.relu_1"])
for number, (layer, found) in enumerate(maps.items()):
    print(layer, found.shape)
    view.feature_maps(found, layer, channels=range(16)).save(f"maps-{number}.png")

# A network is a graph of ONNX's operators: it can be cut, written to a file, and read again.
conv1 = network.layers["conv1"]
print(conv1)
upto = network.run(x, upto="layer4.1.relu_1")
means = upto.mean((2, 3))
again = means @ network.layers["fc"].kernels.T + network.layers["fc"].bias
assert np.allclose(again[0], scores, rtol=1e-3, atol=1e-3 * np.abs(scores).max())
