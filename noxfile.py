"""One command per verb, the same for people and CI: `nox -s lint`, `nox -s types`, `nox -s tests`, `nox -s wheel`."""

import nox

nox.options.sessions = ["lint", "types", "tests", "wheel"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on a checkout."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it away from the checkout, run the suite on it."""
    session.install("build>=1.2")
    session.run("python", "-m", "tools.check_wheel", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """What gollama costs over a bare loop."""
    session.install("-e", ".")
    session.run("python", "-m", "benchmarks.foundation", *session.posargs)


@nox.session
def bench_engine(session: nox.Session) -> None:
    """The engine beside llama.cpp's own benchmarks and other bindings, those that are given."""
    session.install("-e", ".")
    session.run("python", "-m", "benchmarks.engine", *session.posargs)
