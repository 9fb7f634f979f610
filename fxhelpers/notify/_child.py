"""Deliver one message by Apprise, in a process of its own, which a receiver that never answers cannot outlive.

Standard input is JSON: addresses, title, body, type, and the seconds that receivers have once Apprise is imported, which takes
as long again on a busy machine. Standard output is the place of each address that took the message, one a line, as soon as it
did. The exit status is 3 if time was up.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Timer

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, OverflowMode, PersistentStoreMode


def deliver(url: str, title: str, body: str, kind: NotifyType) -> bool:
    """Send the message; a service whose messages are shorter gets it in parts, and nothing is left out."""
    service = Apprise.instantiate(url, asset=AppriseAsset(storage_mode=PersistentStoreMode.MEMORY))
    if service is None:
        return False
    if "overflow=" not in url:
        service.overflow_mode = OverflowMode.SPLIT
    receiver = Apprise()
    receiver.add(service)
    return bool(receiver.notify(body, title=title, notify_type=kind, body_format=NotifyFormat.TEXT))


def main() -> None:
    message = json.load(sys.stdin)
    limit = Timer(message["seconds"], os._exit, [3])
    limit.daemon = True
    limit.start()
    words = (message["title"], message["body"], NotifyType(message["type"]))
    with ThreadPoolExecutor(len(message["urls"])) as threads:
        places = {threads.submit(deliver, url, *words): place for place, url in enumerate(message["urls"])}
        for done in as_completed(places):
            if done.exception() is None and done.result():
                print(places[done], flush=True)  # noqa: T201 (the parent reads it)


if __name__ == "__main__":
    main()
