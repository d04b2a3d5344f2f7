"""Names of nodes over the sessions of a run."""

from ledger_builder import LedgerBuilder, config

from raybench.driver.run import first_name


def test_a_name_is_never_given_twice_though_a_node_of_an_earlier_session_never_joined() -> None:
    builder = LedgerBuilder(config())
    builder.session()
    builder.planned()
    assert first_name(None) == first_name(builder.view()) == 0
    # n0 never joined: two records, and the next free name is not n2.
    builder.node("alpha", 1)
    builder.node("beta", 2)
    assert first_name(builder.view()) == 3
