//! What no test from outside can bring about: who comes first of two, and names with several addresses.

use super::*;
use crate::capture::LiveAnswer;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

const NAME: &str = "localhost";

struct Stage {
    shadow: Shadow,
    resolver: Resolver,
    poll: Poll,
    listener: TcpListener,
    now: f64,
    told: VecDeque<Told>,
}

fn stage() -> Stage {
    let candidate = Candidate { host: NAME.into(), port: 80, prefix: Vec::new() };
    Stage {
        shadow: Shadow::new(candidate, ShadowLimits::new(60.0, 2, 1000, HELD_BYTES), 0.0),
        resolver: Resolver::new().expect("a resolver").0,
        poll: Poll::new().expect("a poll"),
        listener: TcpListener::bind("127.0.0.1:0").expect("a listener"),
        now: 0.0,
        told: VecDeque::new(),
    }
}

impl Stage {
    fn offer(&mut self) {
        let captured = Captured {
            id: "i".into(),
            minted: false,
            time: 0.0,
            run: "r".into(),
            method: b"POST".to_vec(),
            target: b"/x".to_vec(),
            headers: b"Host: a\r\n".to_vec(),
            body: b"{}".to_vec(),
            baseline: LiveAnswer::default(),
            candidate: None,
        };
        self.shadow.offer(Box::new(captured), &mut self.resolver, &self.poll, self.now, &mut self.told);
    }

    /// Its own address is the last of those that the name is found to have.
    fn found(&mut self, others: &[SocketAddr]) {
        let own = self.listener.local_addr().expect("an address");
        let addresses: Addresses = others.iter().copied().chain([own]).collect();
        let (resolver, tag) = (&mut self.resolver, self.shadow.tag());
        self.shadow.resolved(tag, &addresses, resolver, &self.poll, self.now, &mut self.told);
    }

    /// Until so many are asked, and none connects any more.
    fn turn_until(&mut self, in_flight: usize) {
        for _ in 0..20 {
            if self.shadow.in_flight == in_flight && self.shadow.connections.len() == self.shadow.open {
                return;
            }
            self.turn();
        }
        panic!("{} are in flight", self.shadow.in_flight);
    }

    fn turn(&mut self) {
        let mut room = [0; 1000];
        for number in 0..self.poll.wait(1000) {
            let (token, events) = self.poll.event(number);
            let (resolver, told) = (&mut self.resolver, &mut self.told);
            self.shadow.event(token.key, events, resolver, &self.poll, self.now, &mut room, told);
        }
    }

    fn asked(&self) -> TcpStream {
        let (mut end, _) = self.listener.accept().expect("a connection");
        read(&mut end);
        end
    }

    /// What came of the only request that something came of.
    fn outcome(&mut self) -> Option<Failure> {
        assert_eq!(self.told.len(), 1);
        match self.told.pop_front() {
            Some(Told::Answered(captured)) => captured.candidate.expect("an answer").failure,
            _ => panic!("it was shed"),
        }
    }
}

fn read(end: &mut TcpStream) {
    let mut request = [0; 1000];
    let size = end.read(&mut request).expect("a request");
    assert!(request[..size].ends_with(b"\r\n\r\n{}"));
}

fn answer(end: &mut TcpStream) {
    end.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("sent");
}

#[test]
fn a_request_is_asked_twice_at_most_on_used_connections_too() {
    let mut stage = stage();
    stage.offer();
    stage.offer();
    stage.found(&[]);
    stage.turn_until(2);
    let (mut one, mut other) = (stage.asked(), stage.asked());
    for (end, left) in [(&mut one, 1), (&mut other, 0)] {
        answer(end);
        stage.turn_until(left);
        assert_eq!(stage.outcome(), None);
    }
    stage.now = 10.0; // the name must be looked for anew: nobody new is connected to
    stage.offer();
    stage.offer();
    read(&mut one);
    read(&mut other);
    drop(other);
    stage.turn_until(1);
    assert_eq!(stage.shadow.queue.len(), 1, "the first request on a closed connection waits for another one");
    answer(&mut one);
    stage.turn();
    assert_eq!(stage.outcome(), None);
    read(&mut one); // and gets the one that was just freed
    drop(one);
    stage.turn_until(0);
    assert_eq!(stage.outcome(), Some(Failure::Refused));
    assert_eq!(stage.shadow.pending(), 0);
}

#[test]
fn the_next_address_of_a_name_is_tried_where_nobody_is_at_one() {
    let mut stage = stage();
    let closed = TcpListener::bind("127.0.0.1:0").expect("a listener").local_addr().expect("an address");
    stage.offer();
    stage.found(&[closed, "[::1]:1".parse().expect("an address")]);
    stage.turn_until(1);
    answer(&mut stage.asked());
    stage.turn_until(0);
    assert_eq!(stage.outcome(), None);
}

#[test]
fn what_was_found_for_an_earlier_one_is_left_aside() {
    let mut stage = stage();
    stage.offer();
    let before = stage.shadow.tag();
    stage.shadow = Shadow::new(stage.shadow.candidate.clone(), stage.shadow.limits, 0.0);
    stage.offer();
    let addresses: Addresses = Rc::new([]);
    stage.shadow.resolved(before, &addresses, &mut stage.resolver, &stage.poll, 0.0, &mut stage.told);
    assert_eq!(stage.shadow.pending(), 1);
    stage.found(&[]);
    stage.turn_until(1);
}
