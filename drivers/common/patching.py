"""How a module of fastNLP is changed after it has run."""

import sys
from types import FunctionType, ModuleType


def set_default(function: FunctionType, name: str, value: object) -> None:
    """Change the default of the positional argument `name` in place, so that no reference to `function` is stale."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = list(function.__defaults__)
    defaults[names.index(name) - len(names)] = value
    function.__defaults__ = tuple(defaults)


def replace(module: ModuleType, name: str, value: object) -> None:
    """Set `module.name`, also wherever a loaded module of fastNLP has imported it by name."""
    old = getattr(module, name)
    for other in [m for n, m in sys.modules.items() if n.partition(".")[0] == "fastNLP"]:
        if vars(other).get(name) is old:
            setattr(other, name, value)
