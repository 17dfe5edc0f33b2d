"""The layers of a record as a table of words, for every form of a report."""

from chainrule.record import Quantity, RunRecord

COLUMNS = (
    Quantity.ACTIVATION, Quantity.ERROR, Quantity.AGREEMENT, Quantity.GRADIENT, Quantity.WEIGHT, Quantity.UPDATE,
    Quantity.DERIVATIVE_GAIN, Quantity.WEIGHT_GAIN, Quantity.DEAD, Quantity.SATURATED,
)  # fmt: skip


def layer_table(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    """(headings, rows) of the latest measurements; columns that no layer has are left out."""
    layers = [x for x in record.layers if len(record.measured(x.name, Quantity.ACTIVATION))]
    shown = [q for q in COLUMNS if any(len(record.measured(x.name, q)) for x in layers)]
    rows = []
    for layer in layers:
        title = " ".join(p for p in (layer.name, layer.kind, f"→ {layer.activation}" if layer.activation else "") if p)
        rows.append([title, *(_number(record.last(layer.name, q), q) for q in shown)])
    return ["layer", *map(str, shown)], rows


def _number(value: float | None, quantity: Quantity) -> str:
    if value is None:
        return ""
    return f"{value:.0%}" if quantity in (Quantity.DEAD, Quantity.SATURATED) else f"{value:.3g}"
