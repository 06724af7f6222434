"""Binary workbooks (XLS, XLSB) by calamine, the one library that is needed for them, behind one file."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator

from ingest.read.xlsx import MAX_CELLS, Sheet
from ingest.read.zipped import check_zip
from rag.errors import InputError, MissingExtraError

_ZIP_MAGIC = b"PK\x03\x04"


def binary_sheets(data: bytes) -> Iterator[Sheet]:
    """Read the sheets of a binary workbook.

    Args:
        data: The whole file.

    Yields:
        Sheets in the order of their tabs, rows and columns by their own numbers; hidden sheets are told, hidden rows and columns are
        not.

    Raises:
        InputError: With code ``encrypted``, ``unreadable``, ``too_large`` or ``zip_bomb``.
        MissingExtraError: If calamine is not installed.
    """
    try:
        from python_calamine import CalamineWorkbook, PasswordError, SheetVisibleEnum
    except ImportError as error:
        raise MissingExtraError("reading binary workbooks", "docs") from error
    if data.startswith(_ZIP_MAGIC):  # XLSB
        check_zip(data)
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        for number, about in enumerate(book.sheets_metadata):
            found = book.get_sheet_by_index(number)
            if found.total_height * found.total_width > MAX_CELLS:
                raise InputError(f"fills more than {MAX_CELLS:,} cells in {about.name!r}; split it", code="too_large")
            rows = {
                row: {column: text for column, cell in enumerate(cells) if (text := _text(cell))}
                for row, cells in enumerate(found.to_python(skip_empty_area=False), start=1)
            }
            yield Sheet(about.name, {row: cells for row, cells in rows.items() if cells}, about.visible != SheetVisibleEnum.Visible)
    except InputError:
        raise
    except PasswordError as error:
        raise InputError("is protected by a password; remove the password", code="encrypted") from error
    except BaseException as error:
        # A panic of Rust code is no `Exception`, and its class can be told by its name only.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"cannot be read: {' '.join(str(error).split())[:300]}; save it again as XLSX", code="unreadable"
        ) from error


def _text(cell: object) -> str:
    """A cell as the reader of XLSX gives it: whole numbers without a point, dates in ISO form."""
    match cell:
        case bool():
            return "TRUE" if cell else "FALSE"
        case float():
            return str(int(cell)) if cell.is_integer() else repr(cell)
        case datetime.datetime():
            return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ")
        case datetime.date() | datetime.time():
            return cell.isoformat()
        case _:
            return str(cell).strip()
