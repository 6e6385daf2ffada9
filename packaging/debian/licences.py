"""Writes the copyright file's part about the libraries that lie in the package: licences.py LIBRARIES_DIRECTORY.

A library without the text of its licence must be known here: another one stops the build.
"""

from __future__ import annotations

import re
import sys
from email import message_from_string
from pathlib import Path

MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""
WITHOUT_TEXT = {
    "packageurl-python": ("Expat", MIT),
    "python-debian": ("GPL-2+", "On Debian systems the text is in /usr/share/common-licenses/GPL-2."),
}
IN_FULL = (
    (r"^ *Apache License *\n.*?(?:END OF TERMS AND CONDITIONS|such warranty or additional liability\.)", "Apache-2.0"),
    (r"^ *GNU GENERAL PUBLIC LICENSE\n *Version 3.*?why-not-lgpl\.html>\.", "GPL-3"),
)
"""Texts that every Debian system has already, and must not have again."""
NAMES = ("LICENSE", "LICENCE", "COPYING", "AUTHORS", "NOTICE")


def stanza(info: Path) -> str:
    """Return what is to be said of one library."""
    about = message_from_string((info / "METADATA").read_text("utf-8"))
    name = about["Name"]
    found = sorted(path for path in info.rglob("*") if path.is_file() and path.name.upper().startswith(NAMES))
    if found:
        short, text = f"of-{name}", "\n".join(path.read_text("utf-8").strip() for path in found)
    else:
        short, text = WITHOUT_TEXT[name]
    for pattern, known in IN_FULL:
        said = f"[On Debian systems this text is in /usr/share/common-licenses/{known}.]"
        text = re.sub(pattern, said, text, flags=re.MULTILINE | re.DOTALL)
    holder = about["Author"] or about["Author-email"] or about["Maintainer"] or about["Maintainer-email"]
    lines = "".join(f" {line.rstrip() or '.'}\n" for line in text.splitlines())
    files = f"usr/lib/hotmend/lib/python3.11/site-packages/{info.name.partition('-')[0]}*"
    holder = " ".join((holder or f"the authors of {name}, as the text of the licence names them").split())
    return f"\nFiles: {files}\nCopyright: {holder}\nLicense: {short}\n{lines}"


def main() -> None:
    """Print all."""
    for info in sorted(Path(sys.argv[1]).glob("*.dist-info")):
        if not info.name.startswith("hotmend-"):
            sys.stdout.write(stanza(info))


if __name__ == "__main__":
    main()
