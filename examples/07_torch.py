"""A torch model whose convolutions are computed by starconv: the same numbers, the same training. Needs torch."""

import importlib.util
import sys
import time

import starconv as sc

if importlib.util.find_spec("torch") is None:
    print("This example needs torch, which is not installed: pip install torch")
    sys.exit()

import torch

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 32, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv2d(32, 32, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv2d(32, 64, 3, stride=2, padding=1),
    torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(),
    torch.nn.Linear(64, 10),
)
optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
x, y = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))


def step() -> tuple[float, float]:
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item(), time.perf_counter() - start


with torch.no_grad():
    answer = model(x)
seconds = min(step()[1] for _ in range(5))
print(f"torch     {seconds * 1e3:.1f} ms per step")

state = {name: value.clone() for name, value in model.state_dict().items()}
print(sc.interop.torch.accelerate(model))  # in place: the optimizer and everything else stay as they are
seconds = min(step()[1] for _ in range(5))
print(f"starconv  {seconds * 1e3:.1f} ms per step")

model.load_state_dict(state)
with torch.no_grad():
    found = model(x)
    sc.interop.torch.restore(model)
    assert torch.allclose(found, model(x), rtol=1e-4, atol=1e-5)
    assert found.shape == answer.shape
