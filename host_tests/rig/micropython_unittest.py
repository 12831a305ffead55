"""Runs one unittest file on MicroPython and says what happened in one last line of JSON.

`micropython micropython_unittest.py FILE`, with the library, the unittest module and this folder
in MICROPYPATH. Also run on a board, through mpremote: only what every port has is used.
"""

import io
import json
import sys
import unittest


def run(module, only=""):
    """Run every test of a module, or of one class of it.

    Returns a dict with `ran`, `skipped` and `failed`: [[name, text]].
    """
    ran = skipped = 0
    failed = []
    for name in sorted(dir(module)):
        case = getattr(module, name)
        if only not in ("", name):
            continue
        if not isinstance(case, type) or not issubclass(case, unittest.TestCase):
            continue
        for method in sorted(dir(case)):
            if not method.startswith("test"):
                continue
            test = case()
            ran += 1
            try:
                getattr(test, "setUp", _nothing)()
                try:
                    getattr(test, method)()
                finally:
                    getattr(test, "tearDown", _nothing)()
            except unittest.SkipTest as e:
                skipped += 1
                print("skipped %s.%s: %s" % (name, method, e))
            except Exception as e:
                text = io.StringIO()
                sys.print_exception(e, text)
                failed.append(["%s.%s" % (name, method), text.getvalue()])
    return {"ran": ran, "skipped": skipped, "failed": failed}


def _nothing():
    pass


if __name__ == "__main__":
    path = sys.argv[1]
    folder, _, file = path.rpartition("/")
    sys.path.insert(0, folder)
    print(json.dumps(run(__import__(file[:-3]))))
