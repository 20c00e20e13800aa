"""How a network sees an image file, as code for cards that needs numpy and Pillow alone."""

from whymask.data.preprocessing import GREY
from whymask.exports.network import Exported

SEEING = """image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")
{resize}top, left = (round((side - crop) / 2) for side, crop in zip(image.size[::-1], about["size"]))
pixels = np.asarray(image, np.float32).reshape(image.height, image.width, -1) / 255
pixels = pixels[top : top + about["size"][0], left : left + about["size"][1]]
images = ((pixels - about["mean"]) / about["std"]).astype(np.float32).transpose(2, 0, 1)[None]
"""


SQUARE = """shorter = min(image.size)
width, height = (int(about["store"][0] * side / shorter) for side in image.size)
if (width, height) != image.size:
    image = image.resize((width, height), Image.Resampling[about["interpolation"].upper()])
"""

PADDED = """image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")
ratio = max(image.height / about["store"][0], image.width / about["store"][1])
width, height = (max(1, round(side / ratio)) for side in image.size)
scale = (width / image.width, height / image.height)
if (width, height) != image.size:
    image = image.resize((width, height), Image.Resampling[about["interpolation"].upper()])
pixels = np.full((*about["store"], len(about["mean"])), {grey}, np.float32)
pixels[:height, :width] = np.asarray(image, np.float32).reshape(height, width, -1)
images = ((pixels / 255 - about["mean"]) / about["std"]).astype(np.float32).transpose(2, 0, 1)[None]
"""

OBLONG = """ratio = min(image.height / about["store"][0], image.width / about["store"][1])
width, height = (round(side / ratio) for side in image.size)
if (width, height) != image.size:
    image = image.resize((width, height), Image.Resampling[about["interpolation"].upper()])
"""


def seeing_code(what: Exported) -> str:
    """Lines that make `images` (1, C, h, w), float32, of photo.jpg by `about`, a preprocessing as JSON has it."""
    prep = what.encoder.transform
    if prep.pads:
        return PADDED.format(mode=what.mode, grey=GREY)
    return SEEING.format(mode=what.mode, resize=SQUARE if prep.store[0] == prep.store[1] else OBLONG)
