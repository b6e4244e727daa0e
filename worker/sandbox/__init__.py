"""An emulator of the service to rehearse with: real sockets, real signatures, real quotas."""
