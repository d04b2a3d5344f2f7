"""Writes the golden files of this folder anew: `python tests/report/make_golden.py`. Read the difference then."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from report_cases import CASES, terminal_text  # noqa: E402  (the path is set above)

from raybench.report.markdown import render  # noqa: E402
from raybench.report.model import Report  # noqa: E402
from raybench.report.summary import make_report  # noqa: E402

if __name__ == "__main__":
    (HERE / "report.schema.json").write_text(json.dumps(Report.model_json_schema(), indent=1) + "\n")
    for name, build in CASES.items():
        report = make_report(build().view())
        (HERE / f"{name}.md").write_text(render(report))
        (HERE / f"{name}.txt").write_text(terminal_text(report, 80))
