"""Values that several resources of the API have in their requests and answers."""

from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from services.portal.api.edge import path_id

Instant = AwareDatetime
"""An instant with its zone (RFC 3339)."""

ID_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]{1,128}$"
"""services/registry/companies.py, check_id."""

PlatformId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=ID_PATTERN)]
"""The id that the platform gave a company or an account."""

PathId = Annotated[PlatformId, BeforeValidator(path_id)]
"""Such an id as a part of a path, percent-encoded (RFC 3986)."""


class ApiModel(BaseModel):
    """A document of the API: unknown members of a request are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
