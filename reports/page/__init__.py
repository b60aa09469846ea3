"""The page of a run: one HTML file that needs no network, no server and no other file."""

from reports.page.page import page, write_page

__all__ = ["page", "write_page"]
