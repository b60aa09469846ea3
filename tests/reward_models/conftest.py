"""The endpoint of the tests of `lm`, for judges."""

from tests.lm.conftest import server

__all__ = ["server"]
