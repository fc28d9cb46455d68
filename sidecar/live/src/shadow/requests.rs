//! What becomes of the requests that the candidate is asked: each ends as an answer, as a failure or as shed, once.

use super::answer::Whole;
use super::connection::Request;
use super::{Shadow, Told, Turn};
use crate::capture::{Captured, Failure, LiveAnswer};
use crate::figures::Drop;
use crate::poll::{Key, Poll};
use std::collections::VecDeque;

impl Shadow {
    pub(super) fn ask(&mut self, key: Key, request: Request, poll: &Poll, now: f64) {
        let token = self.token(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.ask(request, &self.candidate.prefix, now, poll, token);
        self.in_flight += 1;
    }

    /// A connection is free: the next in the queue, or it idles.
    pub(super) fn serve(&mut self, key: Key, poll: &Poll, now: f64) {
        match self.queue.pop_front() {
            Some(request) => self.ask(key, request, poll, now),
            None => self.idle.push(key),
        }
    }

    /// So many bytes of an answer that goes on: each may be within its own bound, and all together are too much.
    pub(super) fn received(&mut self, key: Key, size: usize, turn: &mut Turn) {
        let Some(request) = self.connections.get_mut(key).and_then(|connection| connection.request.as_mut()) else {
            return;
        };
        request.size += size;
        self.held += size;
        if self.held > self.limits.held_bytes && self.held > request.size {
            self.held -= request.size;
            self.in_flight -= 1;
            self.close(key);
            turn.told.push_back(Told::Shed(Drop::CandidateBytes));
            self.connect_for_queue(turn);
        }
    }

    pub(super) fn answered(&mut self, key: Key, whole: Whole, turn: &mut Turn) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(request) = connection.request.take() else { return };
        let latency = turn.now - connection.since;
        let answer =
            LiveAnswer { failure: None, status: whole.status, latency, headers: whole.headers, body: whole.body };
        // Nor is it used again where the candidate answered before it had read everything.
        let reusable = whole.reusable && !connection.broken && !connection.sock.stalled();
        if reusable {
            connection.served = true;
            connection.since = turn.now;
        }
        self.end_flight(&request);
        if reusable {
            self.serve(key, turn.poll, turn.now);
        } else {
            self.close(key);
        }
        self.report(request.captured, answer, turn);
        if !reusable {
            self.connect_for_queue(turn);
        }
    }

    /// End what is in flight there; the connection is not used again.
    pub(super) fn fail(&mut self, key: Key, failure: Failure, turn: &mut Turn) {
        let Some(connection) = self.close(key) else { return };
        if let Some(request) = connection.request {
            self.end_flight(&request);
            self.report(request.captured, LiveAnswer::failed(failure, turn.now - connection.since), turn);
        }
        self.connect_for_queue(turn);
    }

    /// The connection has ended: `clean`, or by a fault.
    pub(super) fn lost(&mut self, key: Key, clean: bool, turn: &mut Turn) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if clean && !connection.broken && connection.request.is_some() {
            if let Some(whole) = connection.answer.end() {
                return self.answered(key, whole, turn);
            }
        }
        if !connection.stale() {
            return self.fail(key, Failure::Refused, turn);
        }
        let Some(connection) = self.close(key) else { return };
        if let Some(request) = connection.request {
            self.end_flight(&request);
            self.ask_again(request, turn);
        }
        self.connect_for_queue(turn);
    }

    fn end_flight(&mut self, request: &Request) {
        self.in_flight -= 1;
        self.held -= request.size;
    }

    fn ask_again(&mut self, request: Request, turn: &mut Turn) {
        if request.again {
            return self.refused(request, turn);
        }
        // Its neighbours are as old: only a new connection says whether the candidate is there.
        for neighbour in std::mem::take(&mut self.idle) {
            self.close(neighbour);
        }
        self.held += request.size;
        self.queue.push_front(Request { again: true, ..request });
    }

    /// It reached nobody.
    pub(super) fn refused(&mut self, request: Request, turn: &mut Turn) {
        self.report(request.captured, LiveAnswer::failed(Failure::Refused, 0.0), turn);
    }

    fn report(&mut self, mut captured: Box<Captured>, answer: LiveAnswer, turn: &mut Turn) {
        if answer.failure.is_none() {
            self.breaker.succeeded();
        } else if self.breaker.failed(turn.now) {
            self.shed_queue(Drop::Breaker, turn.told);
        }
        captured.candidate = Some(answer);
        turn.told.push_back(Told::Answered(captured));
    }

    pub(super) fn shed_queue(&mut self, reason: Drop, told: &mut VecDeque<Told>) {
        for request in self.queue.drain(..) {
            self.held -= request.size;
            told.push_back(Told::Shed(reason));
        }
    }
}
