# SPDX-License-Identifier: Apache-2.0
"""The Link header of RFC 8288 for a page of a listing."""

from urllib.parse import urlencode

from pager.page import Page


def link_header(url: str, page: Page) -> str:
    def link(number: int, rel: str) -> str:
        query = urlencode({"page": number, "per_page": page.size})
        return f'<{url}?{query}>; rel="{rel}"'

    links = [link(1, "first")]
    if page.has_previous:
        links.append(link(page.number - 1, "prev"))
    if page.has_next:
        links.append(link(page.number + 1, "next"))
    links.append(link(page.page_count, "last"))
    return ", ".join(links)
