"""The page at `/`: its files, their headers, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from html.parser import HTMLParser

import httpx2
import pytest

from gollama.server.page import page_files
from tests.support.server import Running

Lend = Callable[..., AbstractContextManager[Running]]
LOADING = {"src", "href", "action", "data", "poster", "srcset"}


class Elements(HTMLParser):
    """What the page's markup holds: (tag, attributes), and the text within scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.inline += data.strip()


@pytest.fixture(scope="module")
def markup(http: httpx2.Client) -> Elements:
    return Elements(http.get("/").text)


def test_the_page_s_markup_names_its_own_files_only(http: httpx2.Client, markup: Elements) -> None:
    named = {value for _, attributes in markup.found for name, value in attributes.items() if name in LOADING and value}
    assert {name for name in named if not name.startswith("#")} == {"page/app.js", "page/icon.svg", "page/style.css"}
    assert all(http.get(f"/{name}").status_code == 200 for name in named if name.startswith("page/"))


def test_no_file_names_another_origin(http: httpx2.Client) -> None:
    for name, file in page_files().items():
        text = file.content.decode().replace("http://www.w3.org/2000/svg", "")  # a name, which nothing loads
        assert not re.search(r"https?:|//[a-z]|@import|url\(|eval\(|innerHTML|insertAdjacentHTML|document\.write", text), name
        for imported in re.findall(r'from "\./(.+?)"', text):
            assert imported in page_files()


def test_nothing_stands_in_the_markup_that_the_policy_forbids(markup: Elements) -> None:
    assert markup.inline == ""
    assert not [name for _, attributes in markup.found for name in attributes if name == "style" or name.startswith("on")]


def test_every_field_has_a_label_and_every_name_is_there_once(markup: Elements) -> None:
    names = [attributes["id"] for _, attributes in markup.found if "id" in attributes]
    fields = {attributes.get("id") for tag, attributes in markup.found if tag in ("input", "select", "textarea")}
    assert len(names) == len(set(names))
    assert fields == {attributes.get("for") for tag, attributes in markup.found if tag == "label"}
    referred = {word for _, attributes in markup.found for name in ("aria-controls", "aria-labelledby", "aria-describedby", "for")
                for word in (attributes.get(name) or "").split()}
    assert referred <= set(names)


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/page/icon.svg", "/page/index.html"])
def test_headers_keep_the_page_to_itself(http: httpx2.Client, path: str) -> None:
    headers = http.get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'" and policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'" and "unsafe" not in str(policy)
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(("path", "kind"), [("/", "text/html"), ("/page/app.js", "text/javascript"), ("/page/icon.svg", "image/svg+xml")])
def test_files_have_their_kinds(http: httpx2.Client, path: str, kind: str) -> None:
    assert http.get(path).headers["content-type"].startswith(kind)
    head = http.head(path)
    assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) > 100


def test_a_page_that_is_known_is_not_sent_again(http: httpx2.Client) -> None:
    first = http.get("/")
    again = http.get("/", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert first.headers["cache-control"] == "no-cache" and again.status_code == 304 and again.content == b""
    assert again.headers["etag"] == first.headers["etag"] and "content-security-policy" in again.headers
    assert http.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["other.js", "__init__.py", "..%2fapp.py", "%2e%2e%2f%2e%2e%2fversion.py", "app.js%00", "a/app.js"])
def test_a_name_that_is_no_file_of_the_page_is_not_found(http: httpx2.Client, name: str) -> None:
    reply = http.get(f"/page/{name}")
    assert reply.status_code == 404 and reply.json()["error"]["code"] == "not_found"


def test_the_page_is_in_no_document_of_the_api(http: httpx2.Client) -> None:
    assert not [path for path in http.get("/openapi.json").json()["paths"] if path == "/" or path.startswith("/page")]


def test_the_page_can_be_switched_off(lent: Lend) -> None:
    with lent(page=False) as server:
        assert httpx2.get(f"{server.url}/").status_code == httpx2.get(f"{server.url}/page/app.js").status_code == 404
