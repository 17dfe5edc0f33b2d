"""Parquet files, through pyarrow (the extra `parquet`)."""

from pathlib import Path

from chainrule.data.checks import require_memory
from chainrule.data.files import require_file
from chainrule.data.frames import table_of_frame
from chainrule.data.table import Table
from chainrule.errors import DataError, MissingDependencyError


def read_parquet(path: Path) -> Table:
    """The table of a Parquet file; MissingDependencyError with the line to type where pyarrow is not installed."""
    require_file(path)
    try:
        import pyarrow as arrow
        import pyarrow.parquet as files
    except ImportError:
        raise MissingDependencyError(
            f'{path.name} is a Parquet file, which pyarrow reads; type: pip install "chainrule[parquet]"'
        ) from None
    try:
        with files.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            require_memory(sum(file.metadata.row_group(i).total_byte_size for i in groups), path.name)
            frame = file.read()
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is damaged or not Parquet: {str(error).splitlines()[0]}") from None
    return table_of_frame(frame, path.name, path=str(path))
