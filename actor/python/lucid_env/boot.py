"""Reads the package from the actor, as it is in the actor's binary: nothing is installed, no file is written."""
import importlib.util, json, linecache, os, sys


def read(size):
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


class Finder:
    """Finds the modules of the package among the sources, and their lines for tracebacks."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in sources:
            package = any(other.startswith(f"{name}.") for other in sources)
            return importlib.util.spec_from_loader(name, Finder, origin=f"<{name}>", is_package=package)

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        text, file = sources[module.__name__], f"<{module.__name__}>"
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        exec(compile(text, file, "exec"), module.__dict__)


setup = json.loads(read(int.from_bytes(read(4), "little")))
sources = setup.pop("sources")
sys.meta_path.insert(0, Finder)
from lucid_env import host

host.main(setup)
