"""Several hosts, on three throwaway servers whose roles are switched."""
