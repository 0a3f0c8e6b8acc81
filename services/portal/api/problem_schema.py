"""The shape of a problem, as the document of the API describes it."""

from typing import Any, Final

from services.portal.api.problems import MEDIA_TYPE

PROBLEM_SCHEMAS: Final[dict[str, Any]] = {
    "Problem": {
        "title": "Problem",
        "description": "Why a request failed and what to do (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "description": "`urn:replyrate:problem:` and the code."},
            "title": {"type": "string", "description": "What happened."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What to do."},
            "code": {"type": "string", "description": "The code; texts may change, codes do not."},
            "errors": {
                "type": "array",
                "description": "Each field with what is wrong and what to write.",
                "items": {"$ref": "#/components/schemas/FieldProblem"},
            },
            "errors_total": {
                "type": "integer",
                "description": "How many there are. All are listed, except those of an import with more"
                " than 20,000: of every wrong line at least the first is listed then.",
            },
        },
    },
    "FieldProblem": {
        "title": "FieldProblem",
        "type": "object",
        "required": ["in", "field", "code", "detail"],
        "properties": {
            "in": {"type": "string", "enum": ["body", "query", "path", "header"]},
            "field": {"type": "string", "description": "The name; parts are separated by dots."},
            "code": {"type": "string"},
            "detail": {"type": "string", "description": "What is wrong and what to write."},
            "line": {"type": "integer", "description": "The line of a body of lines, from 1."},
        },
    },
}
PROBLEM_RESPONSE: Final[dict[str, Any]] = {
    "description": "A problem: the request failed.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
