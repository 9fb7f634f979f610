"""Messages about what runs ended with, to the addresses in ``notify`` of ``params.yaml``."""

from fxhelpers.notify._messages import SECONDS, Event, event_of, send
