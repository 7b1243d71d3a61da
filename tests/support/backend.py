"""The error of a backend that is down, in this process and in those of a site."""


class BackendDown(Exception):
    pass
