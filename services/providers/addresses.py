"""Domains and host names in the form in which they are compared. Pure."""

from services.common.normal_forms import normalise_address


def domain_of(address: str) -> str | None:
    """The domain of an address (or a bare domain) as A-labels in lower case; None when it is not a valid one."""
    text = address.strip()
    normal = normalise_address(text if "@" in text else f"x@{text}")
    domain = normal.rpartition("@")[2].rstrip(".") if normal else ""
    labels = domain.split(".")
    is_valid = len(domain) <= 253 and len(labels) > 1 and all(_is_label(label) for label in labels)
    return domain if is_valid else None


def host_name(text: str) -> str:
    """A server's name as it is compared: in lower case, without surrounding blanks and the root's dot."""
    return text.strip().rstrip(".").lower()


def parent_domain(host: str) -> str:
    """The domain that a server's name belongs to: what follows its first label, when that can be a domain."""
    parent = host.partition(".")[2]
    return parent if "." in parent else host


def suffixes(server: str) -> list[str]:
    """A server's name, then what follows each of its dots, longest first."""
    labels = host_name(server).split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def _is_label(label: str) -> bool:
    return 1 <= len(label) <= 63 and all(char.isalnum() or char in "-_" for char in label) and label.isascii()
