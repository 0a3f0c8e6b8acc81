"""The reference page: everything of the document is on it, and it needs no other site."""

from html.parser import HTMLParser
from itertools import pairwise

from services.portal.api import problems, reference
from services.portal.security_headers import POLICY
from tests.portal import api_document
from tests.support.portal_lab import Portal, make_portal, portal, portal_dsn

__all__ = ["make_portal", "portal", "portal_dsn"]

DOCUMENT = api_document.described()
ADDRESS = f"/v1{reference.PATH}"


class Page(HTMLParser):
    """The parts of a page that are looked at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


PAGE = Page(reference.render(DOCUMENT))


def test_every_operation_parameter_field_and_problem_is_on_the_page() -> None:
    operations = api_document.operations(DOCUMENT)
    assert len(operations) > 40
    texts = set(PAGE.texts)
    for name, operation in operations:
        assert name in texts
        assert {parameter["name"] for parameter in operation.get("parameters", ())} <= texts
        assert set(operation.get("requestBody", {}).get("content", {})) <= texts
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert name in texts and set(schema["properties"]) <= texts
    assert set(problems.load()[0]) <= texts
    for examples in reference.examples().values():
        assert {example for _, example in examples} <= texts


def test_each_operation_names_what_it_takes() -> None:
    shown = {name: str(reference.credentials(operation)) for name, operation in api_document.operations(DOCUMENT)}
    assert all(sentence in reference.render(DOCUMENT) for sentence in shown.values())
    assert shown["POST /panel-tokens"] == (
        "Takes <code>api-key</code> with the scopes <code>numbers:read</code> and <code>registry:read</code>."
    )
    assert shown["GET /key"] == "Takes <code>api-key</code> with any scope."
    assert shown["GET /rates"] == (
        "Takes <code>api-key</code> with the scope <code>numbers:read</code>, or <code>frame-token</code>."
    )


def test_the_page_can_be_read_without_seeing_it() -> None:
    assert PAGE.attributes("html") == [{"lang": "en"}]
    assert PAGE.texts.count("Reference of the HTTP API, version 1") == len(PAGE.attributes("h1")) == 1
    levels = [int(tag[1]) for tag, _ in PAGE.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and all(below <= above + 1 for above, below in pairwise(levels)), "no level is left out"
    assert len(PAGE.attributes("table")) == len(PAGE.attributes("caption")) > 100
    assert all(header.get("scope") in ("col", "row") for header in PAGE.attributes("th"))
    # In a narrow window the cells of a row are below each other, and each has the heading of its column before it.
    headings = set(PAGE.texts)
    assert all(cell["data-label"] in headings for cell in PAGE.attributes("td"))
    ids = [attributes["id"] for _, attributes in PAGE.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    fragments = {link["href"] for link in PAGE.attributes("a") if (link["href"] or "").startswith("#")}
    assert fragments and fragments <= {f"#{id_}" for id_ in ids}
    labels = {attributes["aria-labelledby"] for _, attributes in PAGE.tags if "aria-labelledby" in attributes}
    assert labels <= set(ids)


def test_the_page_is_served_with_its_stylesheet_and_needs_no_other_site(portal: Portal) -> None:
    addresses = {
        value for _, attributes in PAGE.tags for name, value in attributes.items() if name in ("href", "src") and value
    }
    own = {address for address in addresses if not address.startswith("#")}
    with portal.client() as client:
        response = client.get(ADDRESS)
        assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert response.headers["content-security-policy"] == POLICY
        assert Page(response.text).texts == PAGE.texts
        for address in own:
            assert address.startswith("/") and client.get(address).status_code == 200, address
    assert len(own) == 3
    assert not PAGE.attributes("script") and not PAGE.attributes("style")
    assert not any("style" in attributes for _, attributes in PAGE.tags)
