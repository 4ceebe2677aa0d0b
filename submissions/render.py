"""Run by path, as a child: reads a chat template and conversations as JSON, writes the texts as JSON, within limits.

Imports none of ours and no model library. What the template does wrong comes back as `error`; what it does beyond the
limits ends this process.
"""

import json
import resource
import sys
from typing import Any

SECONDS = 1
"""Of CPU time; an ordinary template takes a hundredth."""

MEMORY = 160 * 2**20
"""Bytes of address space; Python with Jinja takes a third."""

LIMITS = {
    resource.RLIMIT_CPU: SECONDS,
    resource.RLIMIT_AS: MEMORY,
    resource.RLIMIT_NOFILE: 16,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NPROC: 0,
}


def main() -> None:
    """Render what stands on standard input."""
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` around what the assistant says: transformers marks it, and it changes no prompt."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 reads it from the class

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            inner = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(inner).set_lineno(line)

    asked = json.load(sys.stdin)

    def fail(message: object) -> None:
        raise TemplateError(str(message))

    def tojson(
        value: object,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    # As transformers makes it, but for the date, which no prompt of a track may depend on.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": fail, "strftime_now": lambda format: "2025-01-01"}
    for limit, most in LIMITS.items():
        resource.setrlimit(limit, (most, most))
    try:
        template = environment.from_string(asked["template"])
        told = {"tools": None, "documents": None, "add_generation_prompt": True, **asked["tokens"]}
        answer: dict[str, Any] = {
            "texts": [template.render(messages=messages, **told) for messages in asked["conversations"]]
        }
    except SecurityError as error:
        answer = {"error": "reaches for what templates may not touch", "why": str(error)}
    except TemplateSyntaxError as error:
        answer = {"error": "is not Jinja as it is read here", "why": str(error)}
    except MemoryError:
        answer = {"error": "takes more memory than a chat template needs"}
    except RecursionError:
        answer = {"error": "is nested or calls itself without end"}
    except Exception as error:
        answer = {"error": "fails on an ordinary conversation", "why": f"{type(error).__name__}: {error}"}
    if "why" in answer:
        answer["why"] = answer["why"][:500]
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
