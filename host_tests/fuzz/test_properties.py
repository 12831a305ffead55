"""Properties of the packet code, with hypothesis; the kit's own code is the other opinion."""

from fuzz import mutate
from hypothesis import given, settings
from hypothesis import strategies as st
from limpet import packets
from limpet.errors import Lost
from limpet_kit.broker import connect, rules

settings.register_profile("packets", max_examples=500, deadline=None, derandomize=True)
settings.load_profile("packets")

level = st.text("ab$ü", max_size=3)
topics = st.lists(level, min_size=1, max_size=4).map("/".join).filter(bool)
filters = st.lists(st.one_of(level, st.just("+")), min_size=1, max_size=4).map("/".join)
filters = st.one_of(filters, filters.map(lambda f: f + "/#"), st.just("#")).filter(bool)
text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


def packet(out, payload):
    """The bytes of the packet in `out`, with what of the payload did not fit."""
    head = bytes(out.buf[out.off : out.off + out.n])
    length = shift = 0
    for byte in head[1:5]:
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    missing = 1 + shift // 7 + length - len(head)
    return head + payload[len(payload) - missing :]


def read(data, size, pieces):
    """Every packet that `In` finds in `data`, cut as `pieces` says."""
    in_ = packets.In(size)
    at = turn = 0
    while at < len(data):
        room = in_.room()
        n = min(len(room), pieces[turn % len(pieces)], len(data) - at)
        turn += 1
        room[:n] = data[at : at + n]
        in_.have += n
        at += n
        while in_.next():
            yield in_


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_whatever_comes_is_parsed_or_lost(data, pieces):
    found = []
    try:
        for in_ in read(data, 96, pieces):
            mutate.look(in_, found)
    except Lost as e:
        assert e.code in ("MALFORMED", "TOO_BIG") and e.words
    assert not [word for word in found if isinstance(word, str)]


@given(
    topics,
    st.binary(max_size=300),
    st.booleans(),
    st.integers(1, 65535),
    st.booleans(),
    st.integers(40, 400),
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
def test_a_publish_comes_back_as_it_went(topic, payload, retain, pid, qos, size, pieces):
    out = packets.Out(size)
    flags = (packets.QOS1 if qos else 0) | (packets.RETAIN if retain else 0)
    out.publish(topic.encode(), payload, flags, pid if qos else 0)
    data = packet(out, payload)
    found = 0
    for in_ in read(data, len(data), pieces):
        in_.publish()
        found += 1
        assert in_.op == packets.PUBLISH | flags
        assert bytes(in_.buf[in_.at + 2 : in_.topic_end]) == topic.encode()
        assert bytes(in_.buf[in_.payload : in_.end]) == payload
        assert in_.pid == (pid if qos else 0)
    assert found == 1


@given(filters, topics)
def test_a_filter_takes_what_the_kit_says_it_takes(pattern, topic):
    assert packets.matches(pattern.encode(), topic.encode()) == rules.matches(pattern, topic)


@given(
    text.filter(bool),
    st.binary(min_size=1, max_size=200),
    st.integers(0, 65535),
    st.booleans(),
    st.one_of(st.none(), st.tuples(topics, st.binary(max_size=300), st.integers(0, 1))),
)
def test_connect_says_what_it_was_told(account, password, keepalive, clean, will):
    last = (will[0].encode(), will[1], will[2], True) if will else None
    name = account.encode()
    data = bytes(packets.connect(name, name, password, keepalive, clean, last))
    at = 2 if data[1] < 128 else 3
    said = connect.parse(data[at:])
    assert (said.account, said.client_id, said.keepalive) == (account, account, keepalive)
    assert said.password is not None and said.password.reveal() == password
    assert said.clean == clean
    assert said.will == (connect.Will(*will, True) if will else None)
    # The kit's encoder puts the same fields in the same order: the same bytes.
    assert connect.encode(said) == data


@given(st.lists(filters, min_size=1, max_size=20), st.integers(1, 65535))
def test_subscribe_carries_each_filter_with_its_qos(wanted, pid):
    data = bytes(packets.subscribe(pid, [f.encode() for f in wanted]))
    at = 2 if data[1] < 128 else 3
    assert data[0] == 0x82 and int.from_bytes(data[at : at + 2], "big") == pid
    at += 2
    for pattern in wanted:
        n = int.from_bytes(data[at : at + 2], "big")
        assert data[at + 2 : at + 2 + n].decode() == pattern and data[at + 2 + n] == 1
        at += 3 + n
    assert at == len(data)
