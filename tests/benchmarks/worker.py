"""The process behind a ``Worker``: makes a call for each line that it reads, and answers with the seconds that it took."""

import importlib
import json
import os
import sys
import time


def main() -> None:
    with os.fdopen(os.dup(1), "w") as test_results:
        os.dup2(2, 1)  # whatever is printed by what is measured
        module, name, arguments = json.loads(sys.argv[1])
        prepare = getattr(importlib.import_module(module), name)(**arguments)
        print(0, file=test_results, flush=True)
        for _ in sys.stdin:
            call = prepare()
            start = time.perf_counter()
            call()
            print(time.perf_counter() - start, file=test_results, flush=True)


if __name__ == "__main__":
    main()
