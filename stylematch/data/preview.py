"""A photo made smaller, for its thumbnail and for the face finder's first look.

By a whole factor where one gives a fitting size, since the mean of squares of pixels takes a third of the time of a
filter. Such a picture may reach a little further than the photo, so it remembers where the photo ends, and whoever
scales it on loses no part of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from stylematch.data.rgb import to_rgb

PREVIEW_SIDE_PX = 256
_LEAST_SHARE = 0.75


@dataclass(frozen=True, eq=False)
class Smaller:
    """A picture that was made smaller.

    Attributes
    ----------
    image : PIL.Image.Image
        Of mode RGB, or as it came.
    extent : (float, float)
        Width and height of the original in its pixels; its last column and row may reach further.
    """

    image: Image.Image
    extent: tuple[float, float]

    def resized(self, size: tuple[int, int]) -> Image.Image:
        """Return the picture at a size (width, height), antialiased, of mode RGB."""
        # Of mode RGB first: as an array it is copied whole, not pixel by pixel, and it is resized faster.
        image = to_rgb(self.image)
        if image.size == size == self.extent:
            return image
        return image.resize(size, Image.Resampling.BILINEAR, box=(0.0, 0.0, *self.extent), reducing_gap=2.0)


def whole(image: Image.Image) -> Smaller:
    """Return a picture as it is."""
    return Smaller(image, image.size)


def smaller(image: Image.Image, side_px: int) -> Smaller:
    """Return a picture whose larger side is at most ``side_px``, antialiased; as it is where it was.

    Of a larger picture that side is at least three quarters of ``side_px``.
    """
    large = max(image.size)
    if large <= side_px:
        return whole(image)
    factor = -(-large // side_px)
    if large >= _LEAST_SHARE * side_px * factor:
        return _by_factor(image, factor)
    size = (max(1, round(image.width * side_px / large)), max(1, round(image.height * side_px / large)))
    return whole(_by_factor(image, large // side_px).resized(size))


def _by_factor(image: Image.Image, factor: int) -> Smaller:
    if factor == 1:
        return whole(image)
    return Smaller(to_rgb(image.reduce(factor)), (image.width / factor, image.height / factor))
