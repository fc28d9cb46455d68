"""Connections to the model: how many, who waits, and what is said to those for whom there is no room."""

from modelcanary_sidecar.model_connection import ModelConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_no_more_connections_than_the_limit_and_those_behind_wait(make_stage, request_of) -> None:
    stage = make_stage(connections=2, waiting=3)
    clients = [stage.client() for _ in range(6)]
    for client in clients:
        client.sends(request_of())
    assert len(stage.asked) == 2
    stage.open()
    assert len(stage.models) == 2
    assert stage.state.baseline.waiting == 1  # three waited when the last came, and there was no room for it
    assert [client.gets()[9:12] for client in clients] == [b"", b"", b"", b"503", b"503", b"503"]


def test_who_waits_is_served_in_order(make_stage, request_of) -> None:
    stage = make_stage(connections=1)
    clients = [stage.client() for _ in range(3)]
    for n, client in enumerate(clients):
        client.sends(request_of(f"/{n}"))
    stage.open()
    for n, client in enumerate(clients):
        assert stage.models[0].gets().startswith(b"POST /%d " % n)
        stage.models[0].sends(OK)
        assert client.gets().endswith(b"ok")


def test_who_waits_too_long_is_told_so(make_stage, request_of) -> None:
    stage = make_stage(connections=1, waiting_time=5.0)
    served, waits = stage.client(), stage.client()
    served.sends(request_of())
    waits.sends(request_of())
    stage.open()
    stage.passes(4.5)
    assert waits.gets() == b""
    stage.passes(1.0)
    assert waits.gets().startswith(b"HTTP/1.1 503 ")
    assert served.gets() == b""


def test_an_unreachable_model_is_a_502(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of())
    stage.refuse()
    assert client.gets().startswith(b"HTTP/1.1 502 ")
    assert not stage.asked


def test_as_long_as_somebody_waits_a_connection_is_being_opened(make_stage, request_of) -> None:
    stage = make_stage(connections=1)
    clients = [stage.client() for _ in range(3)]
    for client in clients:
        client.sends(request_of())
    stage.open()
    stage.models[0].sends(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")  # and closes
    stage.models[0].closes()
    assert len(stage.asked) == 1
    stage.refuse()
    assert len(stage.asked) == 1
    stage.open()
    stage.models[1].sends(OK)
    assert [client.gets()[9:12] for client in clients] == [b"200", b"502", b"200"]


def test_idle_connections_are_closed_before_the_model_does(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of())
    stage.open()
    stage.models[0].sends(OK)
    stage.now += 1.6  # no sweep yet: the request finds it first
    client.sends(request_of())
    assert stage.models[0].port.ended == "close"
    assert len(stage.asked) == 1
    stage.open()
    stage.models[1].sends(OK)
    stage.passes(1.7)
    assert stage.models[1].port.ended == "close"


def test_the_last_used_is_used_first(stage, request_of) -> None:
    clients = [stage.client() for _ in range(3)]
    for client in clients:
        client.sends(request_of())
    stage.open()
    for model in stage.models:
        model.sends(OK)
        model.gets()
    clients[0].sends(request_of())
    assert stage.models[2].gets().startswith(b"POST")


def test_a_connection_that_was_closed_while_idle_is_not_used(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of())
    stage.open()
    stage.models[0].sends(OK)
    stage.models[0].closes()
    client.sends(request_of())
    assert len(stage.asked) == 1
    assert len(stage.state.baseline.connections) == 0


def test_a_connection_that_was_lost_before_it_was_known_takes_no_place(make_stage, request_of) -> None:
    """The model accepts and hangs up at once: for each time, a place of the pool would be gone for ever."""
    stage = make_stage(connections=1)
    for _ in range(3):
        client = stage.client()
        client.sends(request_of())
        pool, exchange = stage.asked.pop(0)
        connection = ModelConnection(pool)
        connection.connection_lost(None)
        pool.connected(connection, exchange)
        assert client.gets().startswith(b"HTTP/1.1 502 ")
    client = stage.client()
    client.sends(request_of())
    stage.open()
    stage.models[0].sends(OK)
    assert client.gets().endswith(b"ok")


def test_who_has_left_takes_no_place_in_the_queue(make_stage, request_of) -> None:
    stage = make_stage(waiting=2)
    for _ in range(4):
        client = stage.client()
        client.sends(request_of())
        client.leaves()
    assert stage.state.baseline.waiting == 0
    waits = stage.client()
    waits.sends(request_of())
    assert waits.gets() == b""
    stage.open()
    next(model for model in stage.models if model.connection.exchange).sends(OK)
    assert waits.gets().endswith(b"ok")
