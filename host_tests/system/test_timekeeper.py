"""Boards get the time from the kit, live and retained, also after the broker was away."""

import queue
import time

import pytest
from limpet_kit.broker import client, server, timekeeper
from limpet_kit.broker.timekeeper import Timekeeper
from rig.broker import KINDS
from rig.peer import Device

WAIT_S = 20


@pytest.fixture(params=KINDS)
def broker(request, broker_factory):
    return broker_factory(request.param)


def test_a_device_gets_it_live_and_retained(broker):
    device = Device(broker, "lamp-1")
    server.sync(broker.settings, [device.account])
    with Timekeeper(broker.settings, period_s=0.2), device.online() as mqtt:
        device.subscribe(mqtt, timekeeper.TOPIC)
        retained = set()
        while retained != {False, True}:
            topic, payload, was_retained = device.messages.get(timeout=WAIT_S)
            assert topic == timekeeper.TOPIC and len(payload) == 8
            assert abs(int.from_bytes(payload, "big") - time.time()) < 2
            retained.add(was_retained)
            if True not in retained:  # the first may have been live: ask again
                device.subscribe(mqtt, timekeeper.TOPIC)
    while True:  # it stops with its context
        try:
            device.messages.get_nowait()
        except queue.Empty:
            break
    assert device.next(0.5) is None


def test_it_goes_on_when_the_broker_was_away(broker, monkeypatch):
    monkeypatch.setattr(timekeeper, "RETRY_S", 0.05)
    monkeypatch.setattr(timekeeper, "ANSWER_S", 1)
    broker.stop()
    with Timekeeper(broker.settings, period_s=0.1):
        for _ in range(2):
            broker.start()
            with client.KitClient(broker.settings) as kit:
                kit.subscribe(timekeeper.TOPIC)
                for _ in range(3):
                    assert kit.wait(lambda t, p: t == timekeeper.TOPIC, WAIT_S)
            broker.kill()
