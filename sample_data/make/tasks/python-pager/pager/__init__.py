# SPDX-License-Identifier: Apache-2.0
"""Small pagination helpers for lists and HTTP listings."""

from pager.page import Page, paginate
from pager.links import link_header

__all__ = ["Page", "paginate", "link_header"]
