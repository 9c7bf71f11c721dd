"""Pictures of one's own convolution: an animation, a page to drag the kernel across, a figure."""

from pathlib import Path

import numpy as np

from starconv import view

x = np.arange(25).reshape(5, 5) % 7
kernel = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]])

slide = view.slide(x, kernel, stride=2, padding=1)
slide.save("slide.gif")
slide.save("slide.html")
view.channels((3, 5, 5), (2, 3, 3, 3), [1, -2], padding=1).save("channels.png")
for name in ("slide.gif", "slide.html", "channels.png"):
    print(name, Path(name).stat().st_size, "bytes")
