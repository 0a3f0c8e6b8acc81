"""Where the files are that pages load as they are: stylesheets, scripts, the icon."""

from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
