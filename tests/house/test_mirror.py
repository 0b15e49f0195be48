"""Each module with logic in it has its unit test at the mirrored place."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "python" / "carrel"
UNIT = REPOSITORY / "tests" / "unit"


def has_logic(path: Path) -> bool:
    """True where a function does more than declare: protocols, models without methods and constants are exempt."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        if len(body) > 1 or any(not isinstance(s, ast.Pass | ast.Return) for s in body):
            return True
    return False


def test_every_module_with_logic_has_its_test() -> None:
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name.startswith("__") or not has_logic(path):
            continue
        relative = path.relative_to(PACKAGE)
        if not (UNIT / relative.parent / f"test_{relative.name}").is_file():
            missing.append(str(relative))
    assert not missing, f"no unit test at the mirrored place for: {missing}"
