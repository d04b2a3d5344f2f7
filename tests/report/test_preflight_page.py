"""The report's section on the preflight: a row for every check that counts, and none where nothing was checked."""

from ledger_builder import check_units, whole_ledger

from raybench.report.markdown import render
from raybench.report.summary import make_report


def test_a_run_without_checks_has_no_section() -> None:
    report = make_report(whole_ledger().view())
    assert report.preflight == ()
    assert "## Preflight" not in render(report)


def test_every_check_has_a_row_by_target_and_node() -> None:
    builder = whole_ledger()
    for target, start in (("beta", "n1.0"), ("alpha", "n0.0")):
        for unit in check_units(target):
            builder.checked(unit, start)
    report = make_report(builder.view())
    assert [row.target for row in report.preflight] == ["alpha"] * 7 + ["beta"] * 7
    assert (report.preflight[0].node, report.preflight[0].start, report.verdict) == ("n0", "n0.0", "VALID")
    page = render(report)
    assert "28 requests, 7.0 s in all." in page
    assert "canary is sound" in page


def test_a_check_that_says_stop_makes_the_run_invalid_and_stands_above_the_numbers() -> None:
    builder = whole_ledger()
    prompt = next(unit for unit in check_units("alpha") if unit.check == "prompt")
    stop = {"result": "stop", "words": "the server leaves out the generation prompt", "route": "completions"}
    builder.checked(prompt, "n0.0", lambda found: found.model_copy(update=stop))
    report = make_report(builder.view())
    page = render(report)
    assert report.verdict == "INVALID"
    assert page.index("**RED: Prompts are not in the model's own format** - alpha") < page.index("## Performance")
    assert "prompt (completions)" in page
