"""Pascal VOC's XML of an image's objects.

Its corners count pixels from 1 and lie within the box: xmin = 1 and xmax = W are a box as wide as the image, so that
left is xmin - 1 and right is xmax, as detectron2 has it. (py-faster-rcnn subtracts 1 of all four, and takes boxes for
xmax - xmin + 1 wide: as many pixels.) Truncated objects count like others, difficult ones do not.
"""

from pathlib import Path
from xml.etree import ElementTree

from whymask.data.annotations import Annotation, Corners, Marked
from whymask.data.boxes import DIFFICULT
from whymask.data.opening import regular
from whymask.errors import WhymaskError

SUFFIX = ".xml"
FIRST = 1
"""The number of the first pixel."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc_xml(path: Path) -> bool:
    """Whether a file is an XML of an image's annotation, or cannot be read, which is told of where all are."""
    try:
        return ElementTree.fromstring(regular(path).read_bytes()).tag == "annotation"
    except Exception:  # of what is no XML, or no regular file
        return True


def read_voc_xml(path: Path) -> Annotation:
    """Raises WhymaskError for what is no annotation, or holds an object without class or box."""
    try:
        root = ElementTree.fromstring(regular(path).read_bytes())
    except ElementTree.ParseError as error:
        raise WhymaskError(f"its annotation is no XML ({error})") from None
    if root.tag != "annotation":
        raise WhymaskError(f"its XML is of <{root.tag}>, and <annotation>, as Pascal VOC has it, was expected")
    size = _whole(root.findtext("size/height")), _whole(root.findtext("size/width"))
    return Annotation(tuple(map(_marked, root.findall("object"))), size)


def _marked(element: ElementTree.Element) -> Marked:
    name = (element.findtext("name") or "").strip()
    written = [element.findtext(f"bndbox/{corner}") for corner in CORNERS]
    try:
        left, top, right, bottom = (float(text or "") for text in written)
    except ValueError:
        raise WhymaskError(f"an object ({name}) without the four numbers of a bndbox") from None
    if not name:
        raise WhymaskError("an object without a name, which is its class")
    corners: Corners = (left, top, right, bottom)
    return Marked(name, corners, DIFFICULT * ((element.findtext("difficult") or "").strip() == "1"))


def _whole(text: str | None) -> int:
    """A side in pixels, 0 where none is written."""
    try:
        return int(float(text or 0))
    except ValueError:
        return 0
