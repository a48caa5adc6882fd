"""Small networks of random shapes, whose steps are timed to learn what operators cost here.

Operators cost in a step what they do not cost alone: memory is fresh or was just given back, caches hold the layer
before. So they are learnt inside training steps, of networks made of the pieces that real ones are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random

import torch
from torch import Tensor, nn

MOST_ELEMENTS = 6_000_000  # of a feature map: what a step holds stays far below a gigabyte
MOST_MULTIPLY_ADDS = 600_000_000  # of a layer, forward

CHANNELS = (8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 112, 128, 144, 160, 192, 240, 256, 320, 384, 480, 512, 640, 768, 960,
            1024, 1280, 1536, 1920, 2048)  # fmt: skip


class Trained:
    """A network, an input, and a step of it: SGD with momentum, at a rate of 0.

    Numbers stay as random as they were. Training would soon lead to zeros behind each ReLU, and a pooling of zeros
    takes a third of the time: the processor foresees each of its branches.
    """

    def __init__(self, model: nn.Module, input: Tensor) -> None:
        self.model = model
        self.input = input
        self._optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
        self._direction: Tensor | None = None

    def step(self) -> None:
        self._optimizer.zero_grad()
        output = self.model(self.input)
        if self._direction is None:
            self._direction = torch.randn_like(output)
        (output * self._direction).sum().backward()
        self._optimizer.step()


def networks(rounds: int, seed: int = 0) -> Iterator[Trained]:
    """`rounds` of each kind, of other shapes in each round; the same for a seed."""
    random = Random(seed)
    for _ in range(rounds):
        for kind in KINDS:
            yield kind(random)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.inner(x)
        return added


class Concatenated(nn.Module):
    """x and f(x), side by side in channels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


class Excited(nn.Module):
    """Each channel scaled by what a small network makes of all channels' means."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = torch.sigmoid(self.scale(x)) * x
        return scaled


class Attention(nn.Module):
    """A transformer's block: attention and a wide layer, each with its norm and a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        added: Tensor = x + self.wide(self.norm2(x))
        return added


# Shapes ---------------------------------------------------------------------------------------------------------------


def _channels(random: Random, least: int, most: int) -> int:
    return random.choice([each for each in CHANNELS if least <= each <= most])


def _map(random: Random, channels: int, multiply_adds: int, sizes: Sequence[int] = (3, 120)) -> tuple[int, int]:
    """Samples and side of a feature map; `multiply_adds` is what the dearest layer does at each position."""
    positions = min(MOST_ELEMENTS // channels, MOST_MULTIPLY_ADDS // multiply_adds)
    positions = max(int(positions * random.random() ** 2), 64)
    side = min(round(sizes[0] * (sizes[1] / sizes[0]) ** random.random()), int(positions**0.5))
    return max(positions // side**2, 1), side


def _ready(model: nn.Module, samples: int, *shape: int) -> Trained:
    return Trained(model, torch.randn(samples, *shape, requires_grad=True))


# Kinds ----------------------------------------------------------------------------------------------------------------


def _plain(random: Random) -> Trained:
    """3 x 3 convolutions of images, with normalization and pooling."""
    widths = [3, *(_channels(random, 16, 160) for _ in range(3))]
    bias, dearest = random.random() < 0.5, 9 * max(a * b for a, b in pairwise(widths))
    samples, side = _map(random, max(widths), dearest // 3, (16, 100))
    side = max(side, 8)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=bias), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if len(layers) < 10 else []
    return Trained(nn.Sequential(*layers), torch.randn(samples, 3, side, side))


def _bottleneck(random: Random) -> Trained:
    """1 x 1, 3 x 3 (perhaps in groups), 1 x 1 convolutions, with a residual."""
    inner = _channels(random, 32, 512)
    outer = min(inner * random.choice([1, 2, 4]), 2048)
    groups = random.choice([each for each in (1, 1, 1, 8, 32) if inner % each == 0])
    samples, side = _map(random, outer, max(9 * inner * inner // groups, inner * outer), (4, 60))
    return _ready(
        Residual(
            nn.Sequential(
                nn.Conv2d(outer, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
                nn.Conv2d(inner, inner, 3, padding=1, bias=False, groups=groups), nn.BatchNorm2d(inner),
                nn.ReLU(inplace=True), nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer),
            )
        ),
        samples, outer, side, side,
    )  # fmt: skip


def _strided(random: Random) -> Trained:
    """Every second position, as where a network goes from one size to the next."""
    before, after = _channels(random, 24, 768), _channels(random, 48, 1024)
    size = random.choice([1, 3])
    samples, side = _map(random, max(before, after), size**2 * before * after // 4, (6, 80))
    layers = nn.Sequential(
        nn.Conv2d(before, after, size, stride=2, padding=size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )
    return _ready(layers, samples, before, side, side)


def _stem(random: Random) -> Trained:
    """The first layers of an image network: few channels, many positions."""
    after = _channels(random, 16, 96)
    size, stride, samples = random.choice([3, 3, 7, 11, 4, 16]), random.choice([1, 2, 4]), random.choice([1, 2, 3, 5])
    stride = size if size in (4, 16) else stride
    side = random.randrange(64, 180)
    layers = nn.Sequential(
        nn.Conv2d(3, after, size, stride=stride, padding=0 if size == stride else size // 2, bias=size != 7),
        nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
    )  # fmt: skip
    return Trained(layers, torch.randn(samples, 3, side, side))


def _inverted(random: Random) -> Trained:
    """Wider, a depthwise convolution, narrower again."""
    outer = _channels(random, 16, 320)
    inner = outer * random.choice([1, 3, 6])
    size, stride = random.choice([3, 3, 5, 7]), random.choice([1, 1, 2])
    active = random.choice([nn.ReLU6, nn.SiLU, nn.Hardswish, nn.ReLU])
    samples, side = _map(random, inner, inner * outer, (4, 100))
    layers: list[nn.Module] = [nn.Conv2d(outer, inner, 1, bias=False), nn.BatchNorm2d(inner), active(inplace=True)]
    layers += [nn.Conv2d(inner, inner, size, stride, size // 2, groups=inner, bias=False), nn.BatchNorm2d(inner)]
    layers += [active(inplace=True), *([Excited(inner, max(inner // 16, 4))] if random.random() < 0.5 else [])]
    layers += [nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer)]
    return _ready(nn.Sequential(*layers), samples, outer, side, side)


def _dense(random: Random) -> Trained:
    """Normalization first, and channels added to those there were."""
    outer, inner, more = _channels(random, 64, 768), 128, 32
    samples, side = _map(random, outer, max(9 * inner * more, outer * inner), (4, 60))
    inside = nn.Sequential(
        nn.BatchNorm2d(outer), nn.ReLU(inplace=True), nn.Conv2d(outer, inner, 1, bias=False),
        nn.BatchNorm2d(inner), nn.ReLU(inplace=True), nn.Conv2d(inner, more, 3, padding=1, bias=False),
    )  # fmt: skip
    return _ready(nn.Sequential(Concatenated(inside), nn.AvgPool2d(2)), samples, outer, side, side)


def _transformer(random: Random) -> Trained:
    heads = random.choice([2, 3, 4, 6, 8, 12])
    width, length = heads * random.choice([16, 32, 64]), random.randrange(8, 300)
    tokens = min(2_000_000 // width, MOST_MULTIPLY_ADDS // (8 * width * width))
    samples = max(min(int(tokens * random.random()) // length, 64), 1)
    return _ready(Attention(width, heads), samples, length, width)


def _wide(random: Random) -> Trained:
    """Linear layers of single vectors, as classifiers are."""
    widths = [random.choice((256, 512, 768, 1000, 1280, 2048, 4096, 6000)) for _ in range(3)]
    first, second = nn.Linear(widths[0], widths[1]), nn.Linear(widths[1], widths[2])
    layers = nn.Sequential(first, nn.ReLU(inplace=True), nn.Dropout(0.5), second)
    return _ready(layers, random.choice([1, 2, 4, 8, 16, 32, 64]), widths[0])


def _large(random: Random) -> Trained:
    """Plain 3 x 3 convolutions of many channels."""
    before, after = _channels(random, 96, 512), _channels(random, 96, 512)
    samples, side = _map(random, max(before, after), 9 * before * after, (4, 60))
    layers = nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    return _ready(layers, samples, before, max(side, 2), max(side, 2))


def _norms(random: Random) -> Trained:
    """Convolutions with a norm over channels last, as in ConvNeXt."""
    channels = _channels(random, 48, 768)
    samples, side = _map(random, 4 * channels, 4 * channels * channels, (5, 50))
    return _ready(_ChannelsLast(channels), samples, channels, side, side)


def _deep(random: Random) -> Trained:
    """Many small layers: what starting each takes, and what it takes while all is in the caches."""
    channels, active = _channels(random, 8, 96), random.choice([nn.ReLU, nn.Hardswish, nn.SiLU])
    layers: list[nn.Module] = []
    for _ in range(random.randrange(6, 24)):
        size = random.choice([1, 3])
        inner = nn.Sequential(
            nn.Conv2d(channels, channels, size, padding=size // 2, groups=random.choice([1, channels]), bias=False),
            nn.BatchNorm2d(channels),
            active(inplace=True),
        )
        layers.append(random.choice([inner, Residual(inner)]))
    side = random.randrange(3, 20)
    return _ready(nn.Sequential(*layers), random.choice([1, 2, 4]), channels, side, side)


class _ChannelsLast(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        added: Tensor = x + self.scale * y.permute(0, 3, 1, 2)
        return added


KINDS: tuple[Callable[[Random], Trained], ...] = (
    _plain,
    _bottleneck,
    _plain,
    _strided,
    _stem,
    _inverted,
    _bottleneck,
    _dense,
    _transformer,
    _wide,
    _large,
    _norms,
    _inverted,
    _stem,
    _inverted,
    _deep,
    _deep,
)
