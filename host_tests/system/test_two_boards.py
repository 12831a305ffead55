"""Device to device through a real broker: an RP2 asks, an ESP32 answers."""

import pytest
import two_boards
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan


@pytest.mark.parametrize(
    "kind", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "embedded"]
)
def test_each_question_has_its_answer(kind, sim_factory, broker_factory, record_property):
    boards = [sim_factory("SIM_ESP32"), sim_factory("SIM_RP2")]
    for board in boards:
        board.configure(cable=True)
    plans = [Plan(networks=list, name=name, wired=True) for name in ("answers", "asks")]
    ports = [f"sim:{board.name}" for board in boards]
    told = two_boards.exchange(ports, broker_factory(kind).settings, plans, Console())
    assert told["right"] and told["answers"] == two_boards.QUESTIONS
    record_property(
        "measured",
        f"two boards, {kind}: {told['answers']} questions, longest answer {told['longest_ms']} ms",
    )
