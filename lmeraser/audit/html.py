"""The report as one HTML file that has no scripts, loads nothing, and can be printed."""

from __future__ import annotations

import html

from lmeraser.audit.report import Audit, Section, Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
.status { font-size: .8rem; font-weight: 600; padding: .1rem .5rem; border-radius: .3rem; margin-left: .5rem; }
.passed { background: #d9f0e0; color: #14532d; } .failed { background: #f9dcdc; color: #7f1d1d; }
.not-done, .incomplete { background: #fdeec7; color: #713f12; }
.verdict { font-size: 1.1rem; padding: .6rem 1rem; border-radius: .4rem; }
table { border-collapse: collapse; margin: .6rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #d8dee6; font-size: .85rem;
  white-space: nowrap; }
td { font-family: ui-monospace, monospace; }
ul { padding-left: 1.2rem; } svg { max-width: 100%; height: auto; }
@media print { body { margin: 0; } h2 { break-after: avoid; } }
"""
_VERDICTS = {
    "passed": "Passed: every section was done, and none has findings.",
    "failed": "Failed: at least one section has findings.",
    "incomplete": "Incomplete: no section has findings, but some could not be done.",
}


def to_html(audit: Audit) -> str:
    """The whole report."""
    about = (
        ("store", f"{audit.store} ({audit.store_id})"),
        ("made", audit.made_at),
        ("state root", audit.state_root or "-"),
        ("code", f"lmeraser {audit.code}"),
        ("numerics", ", ".join(f"{name} {value}" for name, value in sorted(audit.fingerprint.items()) if value)),
    )
    facts = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in about)
    contents = "".join(
        f'<tr><td><a href="#{_text(each.name)}">{_text(each.title)}</a></td><td>{_badge(each.status)}</td></tr>'
        for each in audit.sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Audit of {_text(audit.store_id)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Audit of {len(audit.requests)} deletions</h1>\n"
        f'<p class="verdict {audit.verdict}">{_text(_VERDICTS[audit.verdict])}</p>\n'
        f"<table>{facts}</table>\n<table>{contents}</table>\n"
        + "\n".join(_section(each) for each in audit.sections)
        + "\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    findings = "".join(f"<li>{_text(finding)}</li>" for finding in section.findings)
    return "\n".join(
        (
            f'<section id="{_text(section.name)}">',
            f"<h2>{_text(section.title)}{_badge(section.status)}</h2>",
            f"<ul>{findings}</ul>" if findings else "",
            *(f"<p>{_text(sentence)}</p>" for sentence in section.said),
            *map(_table, section.tables),
            *section.plots,
            "</section>",
        )
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _badge(status: str) -> str:
    return f'<span class="status {status.replace(" ", "-")}">{_text(status)}</span>'


def _text(value: str) -> str:
    return html.escape(value, quote=True)
