"""Reads the package from the actor, as it is in the actor's binary: nothing is installed, no file is written."""
import json, linecache, os, sys, types


def read(size):
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


setup = json.loads(read(int.from_bytes(read(4), "little")))
sys.modules["lucid_env"] = types.ModuleType("lucid_env")
for name, text in setup.pop("sources"):
    file = f"<lucid_env/{name}.py>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    module = sys.modules[f"lucid_env.{name}"] = types.ModuleType(f"lucid_env.{name}")
    exec(compile(text, file, "exec"), module.__dict__)
sys.modules["lucid_env.host"].main(setup)
