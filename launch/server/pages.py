"""Files of a page, as a server gives them out."""

from pathlib import Path

from fastapi.responses import FileResponse

from launch.server.errors import ApiError

FILE_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
SHARED = Path(__file__).with_name("shared")  # what the pages where people judge have in common


def page_file(folder: Path, name: str) -> FileResponse:
    """The file of this name in `folder`, or else of those that pages share. Raises `ApiError` for none."""
    for file in (folder / name, SHARED / name):
        if file.suffix in FILE_TYPES and file.is_file():
            return FileResponse(file, media_type=FILE_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})
    raise ApiError(404, f"there is nothing at /{name[:100]}", code="not_found")
