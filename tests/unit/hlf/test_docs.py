import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "hlf.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_compiles_and_what_it_imports_is_there(example: str) -> None:
    compile(example, str(PAGE), "exec")
    imports = [line for line in example.splitlines() if line.startswith(("import ", "from "))]
    exec("\n".join(imports), {})
