//! Asks the candidate for mirrored copies: a bounded pool of connections with a bounded queue, a time limit and a
//! breaker. The loop makes one for a run, offers it what users were answered and hands it the events of its sockets;
//! what comes of each request is told, failures included: a failure of the candidate is a datum, once it was there at
//! all. What there is no room for is shed, with the reason. It must not know what a request is for.

mod answer;
mod candidate;
mod connecting;
mod connection;
mod requests;
#[cfg(test)]
mod tests;

pub use candidate::{candidate_of, Candidate};

use crate::breaker::{Breaker, BreakerState};
use crate::capture::{Captured, Failure};
use crate::figures::{AskingFigures, Drop};
use crate::head::Rules;
use crate::poll::{Key, Poll, Slab, GONE, READ, WRITE};
use crate::resolve::{Addresses, Resolver};
use crate::sock::Read;
use answer::Came;
use connection::{Request, ShadowConnection};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

/// Of all that waits for a candidate or is in flight, what it answers included. One request alone may be larger.
pub const HELD_BYTES: usize = 8 << 20;
/// Requests that wait for the candidate, at most.
const QUEUE: usize = 256;
/// Seconds for which its address may refuse before that is a failure of the candidate: it may be on its way to the node.
const APPEAR_TIME: f64 = 5.0;
/// Model servers close idle connections after 2 s (gunicorn) or 5 s (uvicorn): ours must be shorter.
const IDLE: f64 = 1.5;

/// What the instructions bound.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ShadowLimits {
    /// From the request sent to the answer whole.
    pub timeout: f64,
    pub connections: usize,
    pub body_bytes: usize,
    pub held_bytes: usize,
}

impl ShadowLimits {
    pub fn new(timeout: f64, connections: usize, body_bytes: usize, held_bytes: usize) -> Self {
        Self { timeout, connections, body_bytes, held_bytes }
    }
}

/// What came of a captured request that was offered.
pub enum Told {
    Answered(Box<Captured>),
    Shed(Drop),
}

/// What every step needs: whom to ask for addresses, what watches sockets, the time, and where to tell what came of it.
struct Turn<'a> {
    resolver: &'a mut Resolver,
    poll: &'a Poll,
    now: f64,
    told: &'a mut VecDeque<Told>,
}

pub struct Shadow {
    candidate: Candidate,
    limits: ShadowLimits,
    rules: Rules,
    /// How many there were before: what is still on its way to one of them is not for this one.
    serial: u32,
    breaker: Breaker,
    queue: VecDeque<Request>,
    /// Bytes of all that waits or is in flight.
    held: usize,
    connections: Slab<ShadowConnection>,
    /// The last one used is used first.
    idle: Vec<Key>,
    in_flight: usize,
    /// Connections that were accepted.
    open: usize,
    /// Attempts whose name is being looked for, by when they end.
    resolving: Vec<f64>,
    unreached_until: f64,
    /// The next attempt is not before this.
    connect_from: f64,
    swept: f64,
    stopped: bool,
}

static SERIAL: AtomicU32 = AtomicU32::new(0);

impl Shadow {
    pub fn new(candidate: Candidate, limits: ShadowLimits, now: f64) -> Self {
        Self {
            candidate,
            limits,
            rules: Rules::new("", ""),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            breaker: Breaker::of_shadow(),
            queue: VecDeque::new(),
            held: 0,
            connections: Slab::default(),
            idle: Vec::new(),
            in_flight: 0,
            open: 0,
            resolving: Vec::new(),
            unreached_until: now + APPEAR_TIME,
            connect_from: 0.0,
            swept: now,
            stopped: false,
        }
    }

    /// Take a captured request, or shed it.
    pub fn offer(
        &mut self,
        captured: Box<Captured>,
        resolver: &mut Resolver,
        poll: &Poll,
        now: f64,
        told: &mut VecDeque<Told>,
    ) {
        let size = captured.size();
        let request = Request { captured, size, again: false };
        let reason = if self.stopped {
            Drop::Stopped
        } else if self.queue.len() >= QUEUE {
            Drop::CandidateQueue
        } else if self.held > 0 && self.held + size > self.limits.held_bytes {
            Drop::CandidateBytes
        } else if !self.breaker.allow(now) {
            Drop::Breaker
        } else if let Some(key) = self.idle.pop() {
            self.held += size;
            return self.ask(key, request, poll, now);
        } else {
            self.held += size;
            self.queue.push_back(request);
            return self.connect_for_queue(&mut Turn { resolver, poll, now, told });
        };
        told.push_back(Told::Shed(reason));
    }

    /// Of one of its sockets; what is read passes through `room`.
    #[allow(clippy::too_many_arguments)] // all of them the loop's, which cannot lend itself
    pub fn event(
        &mut self,
        key: Key,
        events: u32,
        resolver: &mut Resolver,
        poll: &Poll,
        now: f64,
        room: &mut [u8],
        told: &mut VecDeque<Told>,
    ) {
        let key = self.renamed(key);
        let token = self.token(key);
        let turn = &mut Turn { resolver, poll, now, told };
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.attempt.is_some() {
            return self.attempted(key, events, turn);
        }
        if events & WRITE != 0 {
            connection.send_on(poll, token);
        }
        if events & (READ | GONE) == 0 {
            return;
        }
        match connection.sock.read(room) {
            Read::Some(_) if connection.request.is_none() => {
                self.close(key); // nobody asked: what follows cannot be told apart from an answer
                self.connect_for_queue(turn);
            }
            Read::Some(size) => match connection.answer.read(&room[..size], &self.rules, self.limits.body_bytes) {
                Came::More => self.received(key, size, turn),
                Came::Whole(whole) => self.answered(key, whole, turn),
                Came::Failed(failure) => self.fail(key, failure, turn),
            },
            Read::Nothing => {}
            Read::End => self.lost(key, true, turn),
            Read::Failed => self.lost(key, false, turn),
        }
    }

    /// What the resolver found for a tag.
    pub fn resolved(
        &mut self,
        tag: u64,
        addresses: &Addresses,
        resolver: &mut Resolver,
        poll: &Poll,
        now: f64,
        told: &mut VecDeque<Told>,
    ) {
        if tag == self.tag() {
            for until in std::mem::take(&mut self.resolving) {
                self.connect(addresses.clone(), until, &mut Turn { resolver, poll, now, told });
            }
        }
    }

    /// End what is late, and ask on; to be called at `next_due` at the latest.
    pub fn sweep(&mut self, resolver: &mut Resolver, poll: &Poll, now: f64, told: &mut VecDeque<Told>) {
        let turn = &mut Turn { resolver, poll, now, told };
        self.swept = now;
        self.end_attempts(turn);
        let late = now - self.limits.timeout;
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get(key) else { continue };
            if connection.request.is_some() {
                if connection.since <= late {
                    self.fail(key, Failure::Timeout, turn);
                }
            } else if connection.attempt.is_none() && connection.since < now - IDLE {
                self.close(key);
            }
        }
        self.connect_for_queue(turn);
    }

    /// When it is to be swept again; the loop's own sweeps do for idle connections.
    pub fn next_due(&self, now: f64) -> f64 {
        if self.pending() + self.connecting() == 0 {
            return f64::INFINITY;
        }
        now.max(self.swept + (self.limits.timeout / 10.0).clamp(0.01, 0.1))
    }

    /// Shed all that waits or is in flight, at once; nothing is answered after it.
    pub fn stop(&mut self, told: &mut VecDeque<Told>) {
        self.stopped = true;
        self.shed_queue(Drop::Stopped, told);
        for key in self.connections.keys() {
            let connection = self.connections.remove(key);
            if connection.is_some_and(|connection| connection.request.is_some()) {
                told.push_back(Told::Shed(Drop::Stopped));
            }
        }
        self.held = 0;
        self.idle.clear();
        self.resolving.clear();
        self.in_flight = 0;
        self.open = 0;
    }

    /// What is still to be answered.
    pub fn pending(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    /// Whether the queue is filled beyond the share of what it holds, or the breaker is open.
    pub fn full(&mut self, share: f64, now: f64) -> bool {
        self.queue.len() as f64 > QUEUE as f64 * share || self.breaker.state(now) == BreakerState::Open
    }

    pub fn figures(&mut self, now: f64) -> AskingFigures {
        AskingFigures {
            breaker: self.breaker.state(now),
            queue: self.queue.len(),
            held_bytes: self.held,
            in_flight: self.in_flight,
            connections: self.open,
        }
    }
}
