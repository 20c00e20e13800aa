"""Docstrings and fields of settings as the reference shows them."""

import re
from typing import Any

from griffe import Attribute, Expr, ExprCall, ExprKeyword, ExprSubscript, ExprTuple, Extension, Object


class Plain(Extension):
    """Fields without what only the command line needs to know of them: `Annotated[X, ...]` is X,
    `field(default_factory=X)` is X() and `field(default=x)` is x. In texts <w, v> is a product, no tag."""

    def on_attribute_instance(self, *, attr: Attribute, **unused: Any) -> None:
        kind, value = attr.annotation, attr.value
        if isinstance(kind, ExprSubscript) and str(kind.left) == "Annotated" and isinstance(kind.slice, ExprTuple):
            attr.annotation = kind.slice.elements[0]
        if isinstance(value, ExprCall) and str(value.function) == "field":
            given = {part.name: part.value for part in value.arguments if isinstance(part, ExprKeyword)}
            made = given.get("default_factory")
            attr.value = ExprCall(made, []) if isinstance(made, Expr) else given.get("default")
        if "class-attribute" not in attr.labels:
            attr.value = None  # what an __init__ makes of its arguments

    def on_object(self, *, obj: Object, **unused: Any) -> None:
        if obj.docstring:
            parts = re.split(r"(`+.*?`+|^ {4}.*$)", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = "".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))
