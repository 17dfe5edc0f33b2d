"""Where rows come from: files, dataframes, arrays and the data sets that ship with the package.

`load` gives arrays at once. `read` then `prepare` gives a Dataset, with names, classes and the Preprocess that treats
new rows alike. `as_dataset` takes what is in memory already. `batches` orders the rows of an epoch.
"""

from chainrule.data import batches
from chainrule.data.arrays import Stream, as_dataset
from chainrule.data.catalogue import Description, describe, names
from chainrule.data.dataset import Dataset, load, prepare
from chainrule.data.labels import Target
from chainrule.data.preprocess import Input, Preprocess, fit_preprocess
from chainrule.data.source import read
from chainrule.data.table import Column, Table

__all__ = [
    "Column",
    "Dataset",
    "Description",
    "Input",
    "Preprocess",
    "Stream",
    "Table",
    "Target",
    "as_dataset",
    "batches",
    "describe",
    "fit_preprocess",
    "load",
    "names",
    "prepare",
    "read",
]
