"""An emulator of the service to rehearse with: real sockets, real signatures, real quotas.

The pieces: ``options`` (what it can be told, with a switch for every fact the service does not
document), ``world`` (persons and faces), ``gateway`` (signatures), ``quota``, ``latency``,
``faults``, ``journal`` (the request log, which is also what a restart is rebuilt from), ``server``
(the emulator in this process), ``serving`` (the whole life of a sandbox process) and ``child``
(that process as seen by its parent).
"""
