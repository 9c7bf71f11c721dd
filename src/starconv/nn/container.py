"""Networks: layers in a row, and layers with a way around them."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..arguments import Array
from ..errors import ArgumentTypeError, ArgumentValueError
from .compiled import elementwise
from .module import Back, Module, Shape

if TYPE_CHECKING:
    from ..engine.steps import Value
    from .recorder import Recorder

__all__ = ["Residual", "Sequential"]


class Sequential(Module):
    """Layers one after the other, named "0", "1", ... or by the keys of a dict.

    >>> from starconv.nn import Conv2d, Flatten, Linear, ReLU
    >>> network = Sequential(Conv2d(1, 4, 3, seed=0), ReLU(), Flatten(), Linear(4 * 6 * 6, 10, seed=1))
    >>> network
    Sequential(
      (0): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
      (1): ReLU()
      (2): Flatten(start_dim=1, end_dim=-1)
      (3): Linear(in_features=144, out_features=10, bias=True)
    )
    >>> list(network.named_parameters())
    ['0.weight', '0.bias', '3.weight', '3.bias']
    """

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named = dict(layers[0])
        else:
            named = {str(number): layer for number, layer in enumerate(layers)}  # type: ignore[misc]
        for name, layer in named.items():
            _check_layer(f"layer {name}", layer)
            if not name or "." in name:
                raise ArgumentValueError(
                    "name", name, "a name without a dot, which separates names of layers in layers"
                )
            self.own_children[name] = layer
        if len({id(layer) for layer in named.values()}) < len(named):
            # A layer keeps what its last call needs for the gradient; of two calls, one would be lost.
            raise ArgumentValueError("layers", list(named), "every layer once; make another one of the same kind")

    def forward(self, x: Array) -> Array:
        """`x` through all layers."""
        for layer in self._running_order():
            x = layer(x)
        return x

    def _running_order(self) -> list[Module]:
        """The layers, but those that keep the order of numbers after the maxima before which they stand.

        The maximum of what such a layer gives is what it gives for the maximum, and its gradient goes the same way, to
        the last bit; but there are fewer numbers, a quarter as many after windows of 2 x 2.
        """
        layers = list(self.own_children.values())
        for number in range(len(layers) - 1):
            if layers[number].keeps_order and layers[number + 1].takes_maxima:
                layers[number : number + 2] = layers[number + 1], layers[number]
        return layers

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """Back through all layers; not further than to the first one with parameters, unless `needed`."""
        layers = self._running_order()
        first = 0
        if not needed:
            first = next((number for number, layer in enumerate(layers) if layer.parameters()), len(layers))
        gradient: Array | None = grad
        for number in reversed(range(first, len(layers))):
            assert gradient is not None
            gradient = layers[number]._backward(gradient, needed or number > first)
        return gradient if needed else None

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same for what the layers write."""
        layers = self._running_order()
        backs = []
        for layer in layers:
            x, back = tape.recorded(layer, x)
            backs.append(back)

        def back_through(grad: "Value", needed: bool) -> "Value | None":
            first = 0
            if not needed:
                first = next((number for number, layer in enumerate(layers) if layer.parameters()), len(layers))
            gradient: Value | None = grad
            for number in reversed(range(first, len(layers))):
                assert gradient is not None
                gradient = backs[number](gradient, needed or number > first)
            return gradient if needed else None

        return x, back_through

    def output_shape(self, shape: Shape) -> Shape:
        """That of the last layer."""
        for layer in self.own_children.values():
            shape = layer.output_shape(shape)
        return shape

    def multiply_adds(self, shape: Shape) -> int:
        """Of all layers together."""
        total = 0
        for layer in self.own_children.values():
            total += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        return total

    def __len__(self) -> int:
        return len(self.own_children)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.own_children.values())

    def __getitem__(self, index: int | str) -> Module:
        """A layer by number or name."""
        if isinstance(index, str):
            return self.own_children[index]
        return list(self.own_children.values())[index]


class Residual(Module):
    """body(x) + shortcut(x); without a shortcut, body(x) + x.

    Source: K. He et al., "Deep residual learning for image recognition", arXiv:1512.03385.

    >>> import numpy as np
    >>> from starconv.nn import Conv2d
    >>> block = Residual(Conv2d(4, 4, 3, padding=1))
    >>> block(np.zeros((1, 4, 8, 8), "float32")).shape
    (1, 4, 8, 8)
    >>> list(block.named_parameters())
    ['body.weight', 'body.bias']
    """

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        super().__init__()
        _check_layer("body", body)
        self.own_children["body"] = body
        if shortcut is not None:
            _check_layer("shortcut", shortcut)
            self.own_children["shortcut"] = shortcut

    @property
    def body(self) -> Module:
        """The way through the layers."""
        return self.own_children["body"]

    @property
    def shortcut(self) -> Module | None:
        """The way around them, or None for x itself."""
        return self.own_children.get("shortcut")

    def forward(self, x: Array) -> Array:
        """The sum of both ways."""
        through = self.body(x)
        around = x if self.shortcut is None else self.shortcut(x)
        if through.shape != around.shape:
            raise ArgumentValueError("body", through.shape, f"the shape of the shortcut, {around.shape}")
        return _sum(through, around)

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """The sum of the gradients of both ways."""
        through = self.body._backward(grad, needed)
        around = grad if self.shortcut is None else self.shortcut._backward(grad, needed)
        return _sum(through, around) if through is not None and around is not None and needed else None

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same for what both ways write."""
        x.keep()  # for the other way
        through, back_through = tape.recorded(self.body, x)
        around, back_around = (x, None) if self.shortcut is None else tape.recorded(self.shortcut, x)
        output = _written_sum(tape, through, around)

        def back(grad: "Value", needed: bool) -> "Value | None":
            grad.keep()
            one = back_through(grad, needed)
            other = grad if back_around is None else back_around(grad, needed)
            return None if one is None or other is None or not needed else _written_sum(tape, one, other)

        return output, back

    def output_shape(self, shape: Shape) -> Shape:
        """That of both ways."""
        through = self.body.output_shape(shape)
        around = shape if self.shortcut is None else self.shortcut.output_shape(shape)
        if through != around:
            raise ArgumentValueError("body", through, f"the shape of the shortcut, {around}")
        return through

    def multiply_adds(self, shape: Shape) -> int:
        """Of both ways."""
        return sum(child.multiply_adds(shape) for child in self.own_children.values())


def _sum(a: Array, b: Array) -> Array:
    compiled = elementwise("add", a, b)
    return a + b if compiled is None else compiled


def _written_sum(tape: "Recorder", a: "Value", b: "Value") -> "Value":
    """a + b in the place of `a`, unless others read that."""
    out = a if a.may_change and not a.readers and a.whole is None else tape.like(a)
    tape.elementwise("add", [a, tape.laid_like(b, a)], [out])
    return out


def _check_layer(argument: str, layer: object) -> None:
    if not isinstance(layer, Module):
        raise ArgumentTypeError(argument, layer, "a layer (a starconv.nn.Module)")
