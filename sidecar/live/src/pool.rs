//! The connections to one model: how many there are, which are free, and who waits for one.
//!
//! The last used is used first, so that as few as are needed stay warm. As long as exchanges wait and there is room for a
//! connection, one is being opened. It must not know what is asked, nor who asks.

use crate::attempt::Attempt;
use crate::exchange::{Of, BROKE_OFF, OVERLOADED, TOO_LATE, UNREACHABLE};
use crate::live::{Live, Soon};
use crate::model::Model;
use crate::poll::{Key, Kind, Token};
use crate::resolve::{Addresses, Asked};
use std::collections::VecDeque;

pub struct Pool {
    host: String,
    port: u16,
    /// Of connections, open or being opened.
    pub limit: usize,
    waiting_limit: usize,
    waiting_time: f64,
    answer_time: f64,
    idle: f64,
    /// The answer time is for all of it, not between two bytes.
    whole_answers: bool,
    pub open: usize,
    pub opening: usize,
    pub free: Vec<Key>,
    pub queue: VecDeque<Key>,
    /// Connections whose address is being looked for: for which exchange alone (NONE: any), and until when.
    resolving: Vec<(Key, f64)>,
    /// Of what this pool asks the resolver: an answer may come when there is another.
    tag: u64,
}

/// How a pool is bounded; seconds.
pub struct Bounds {
    pub limit: usize,
    pub waiting: usize,
    pub waiting_time: f64,
    pub answer_time: f64,
    pub idle: f64,
    pub whole_answers: bool,
    pub tag: u64,
}

impl Pool {
    pub fn new(host: String, port: u16, bounds: &Bounds) -> Self {
        Self {
            tag: bounds.tag,
            host,
            port,
            limit: bounds.limit,
            waiting_limit: bounds.waiting,
            waiting_time: bounds.waiting_time,
            answer_time: bounds.answer_time,
            idle: bounds.idle,
            whole_answers: bounds.whole_answers,
            open: 0,
            opening: 0,
            free: Vec::new(),
            queue: VecDeque::new(),
            resolving: Vec::new(),
        }
    }
}

/// Of the baseline's pool; those of the candidates' count on from it.
pub const BASELINE_TAG: u64 = 1;

impl Live {
    pub fn pool(&mut self, of: Of) -> Option<&mut Pool> {
        match of {
            Of::Baseline => Some(&mut self.baseline),
            Of::Candidate => self.candidate.as_mut(),
        }
    }

    /// Send it now, or when there is a connection, or fail it.
    pub fn dispatch(&mut self, key: Key) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let of = exchange.of;
        loop {
            let Some(pool) = self.pool(of) else {
                self.failed(key, UNREACHABLE);
                return;
            };
            let idle = pool.idle;
            let Some(free) = pool.free.pop() else { break };
            let Some(model) = self.models.get_mut(free) else { continue };
            if now - model.idle_since > idle {
                self.close_model(free); // the model may be closing it at this very moment
                continue;
            }
            model.reused = true;
            self.start(free, key);
            return;
        }
        let Some(pool) = self.pool(of) else { return };
        if pool.queue.len() >= pool.waiting_limit {
            self.failed(key, OVERLOADED);
            return;
        }
        pool.queue.push_back(key);
        if let Some(exchange) = self.exchanges.get_mut(key) {
            exchange.queued = true;
        }
        self.open_if_needed(of);
    }

    /// Nobody waits for it any more: it must not take the place of one that is waited for.
    pub fn withdraw(&mut self, key: Key) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let (of, queued, connection) = (exchange.of, exchange.queued, exchange.connection);
        exchange.queued = false;
        if queued {
            if let Some(pool) = self.pool(of) {
                pool.queue.retain(|one| *one != key);
            }
        }
        if connection != Key::NONE {
            self.close_model(connection);
        }
    }

    /// Try an exchange on a fresh connection: the one it was sent on had been closed by the model.
    pub fn again(&mut self, of: Of, key: Key) {
        if of == Of::Baseline {
            self.figures.retries += 1;
        }
        if let Some(exchange) = self.exchanges.get_mut(key) {
            exchange.queued = true;
        }
        self.open_one(of, key);
    }

    pub fn open_if_needed(&mut self, of: Of) {
        while let Some(pool) = self.pool(of) {
            if pool.opening >= pool.queue.len() || pool.open + pool.opening >= pool.limit {
                return;
            }
            self.open_one(of, Key::NONE);
        }
    }

    fn open_one(&mut self, of: Of, exchange: Key) {
        let deadline = self.now + self.settings.limits.connect_time;
        let now = self.now;
        let pool = match of {
            Of::Baseline => &mut self.baseline,
            Of::Candidate => match self.candidate.as_mut() {
                Some(pool) => pool,
                None => return,
            },
        };
        pool.opening += 1;
        match self.resolver.ask(&pool.host, pool.port, pool.tag, now) {
            Asked::Now(addresses) => self.connect(of, exchange, Attempt::new(addresses, deadline)),
            Asked::Later => pool.resolving.push((exchange, deadline)),
            Asked::NoRoom => self.soon.push_back(Soon::ConnectFailed(of, exchange)),
        }
    }

    /// What the resolver found, for one that had asked.
    pub fn resolved(&mut self, tag: u64, addresses: &Addresses) {
        for of in [Of::Baseline, Of::Candidate] {
            let Some(pool) = self.pool(of).filter(|pool| pool.tag == tag && !pool.resolving.is_empty()) else {
                continue;
            };
            let (exchange, deadline) = pool.resolving.remove(0);
            self.connect(of, exchange, Attempt::new(addresses.clone(), deadline));
        }
    }

    fn connect(&mut self, of: Of, exchange: Key, mut attempt: Attempt) {
        let Some(sock) = attempt.next() else {
            self.soon.push_back(Soon::ConnectFailed(of, exchange));
            return;
        };
        let key = self.models.insert(Model::new(sock, of));
        let Some(model) = self.models.get_mut(key) else { return };
        model.connects_for = exchange;
        model.attempt = Some(attempt);
        model.sock.watch(&self.poll, Token::new(Kind::Model, key));
    }

    /// The first event of a connection that was being opened.
    pub fn connecting(&mut self, key: Key) {
        let Some(model) = self.models.get_mut(key) else { return };
        let (of, exchange) = (model.of, model.connects_for);
        let attempt = model.attempt.take();
        if !model.sock.connected() {
            self.models.remove(key);
            match attempt {
                Some(attempt) => self.connect(of, exchange, attempt),
                None => self.soon.push_back(Soon::ConnectFailed(of, exchange)),
            }
            return;
        }
        model.connects_for = Key::NONE;
        model.sock.read_on(true);
        model.sock.watch(&self.poll, Token::new(Kind::Model, key));
        if let Some(pool) = self.pool(of) {
            pool.opening -= 1;
            pool.open += 1;
        }
        if self.exchanges.get(exchange).is_some_and(|one| one.wants_answer() && one.queued) {
            self.release_request(exchange);
            self.start(key, exchange); // which holds it again where the model does not take all
        } else {
            self.released(key);
        }
    }

    pub fn connect_failed(&mut self, of: Of, exchange: Key) {
        let Some(pool) = self.pool(of) else { return };
        pool.opening -= 1;
        let exchange = if exchange == Key::NONE { self.next_waiting(of) } else { Some(exchange) };
        if let Some(key) = exchange {
            if self.exchanges.get(key).is_some_and(|one| one.wants_answer()) {
                self.failed(key, UNREACHABLE);
            }
        }
        self.open_if_needed(of);
    }

    /// A connection is free: for who waits, or to idle.
    pub fn released(&mut self, key: Key) {
        let Some(model) = self.models.get_mut(key) else { return };
        let of = model.of;
        model.idle_since = self.now;
        match self.next_waiting(of) {
            Some(exchange) => {
                if let Some(model) = self.models.get_mut(key) {
                    model.reused = model.written > 0;
                }
                self.release_request(exchange);
                self.start(key, exchange);
            }
            None => {
                if let Some(pool) = self.pool(of) {
                    pool.free.push(key);
                }
            }
        }
    }

    fn next_waiting(&mut self, of: Of) -> Option<Key> {
        loop {
            let key = self.pool(of)?.queue.pop_front()?;
            if self.exchanges.get(key).is_some_and(|one| one.wants_answer() && one.queued) {
                return Some(key);
            }
        }
    }

    /// A connection is gone.
    pub fn lost_model(&mut self, of: Of, key: Key) {
        if let Some(pool) = self.pool(of) {
            pool.open -= 1;
            pool.free.retain(|one| *one != key);
        }
        self.open_if_needed(of);
    }

    /// Time limits, coarse: one pass over the connections instead of a timer per request.
    pub fn sweep_pool(&mut self, of: Of) {
        let now = self.now;
        let Some(pool) = self.pool(of) else { return };
        let (idle, answer_time, whole_answers) = (pool.idle, pool.answer_time, pool.whole_answers);
        let waiting_time = pool.waiting_time;
        let mut given_up = Vec::new();
        pool.resolving.retain(|(exchange, deadline)| {
            let waits = now < *deadline;
            if !waits {
                given_up.push(*exchange);
            }
            waits
        });
        self.soon.extend(given_up.into_iter().map(|exchange| Soon::ConnectFailed(of, exchange)));
        for key in self.models.keys() {
            let Some(model) = self.models.get(key) else { continue };
            if model.of != of {
                continue;
            }
            if model.sock.connecting {
                if model.attempt.as_ref().is_some_and(|attempt| now >= attempt.until) {
                    let exchange = model.connects_for;
                    self.models.remove(key);
                    self.soon.push_back(Soon::ConnectFailed(of, exchange));
                }
            } else if model.exchange == Key::NONE {
                if now - model.idle_since > idle {
                    self.close_model(key);
                }
            } else if !model.held {
                // Else it is the client that takes its time.
                let Some(exchange) = self.exchanges.get(model.exchange) else { continue };
                let since = if whole_answers { exchange.sent } else { exchange.activity.max(exchange.sent) };
                if now - since > answer_time {
                    self.fail_model(key, TOO_LATE);
                }
            }
        }
        while let Some(pool) = self.pool(of) {
            let Some(key) = pool.queue.front().copied() else { return };
            if self.exchanges.get(key).is_some_and(|one| now - one.started <= waiting_time) {
                return;
            }
            if let Some(pool) = self.pool(of) {
                pool.queue.pop_front();
            }
            if self.exchanges.get(key).is_some_and(|one| one.wants_answer()) {
                self.failed(key, OVERLOADED);
            }
        }
    }

    /// Be done with the candidate: what is under way there fails, and what is being opened is closed.
    pub fn close_candidate(&mut self) {
        let mut waiting = Vec::new();
        if let Some(pool) = self.candidate.take() {
            waiting.extend(pool.queue);
            waiting.extend(pool.resolving.into_iter().map(|(exchange, _)| exchange));
        }
        for key in self.models.keys() {
            let Some(model) = self.models.get(key) else { continue };
            if model.of == Of::Candidate {
                let exchanges = [model.exchange, model.connects_for];
                self.models.remove(key);
                for exchange in exchanges {
                    if self.exchanges.get(exchange).is_some() {
                        self.failed(exchange, BROKE_OFF);
                    }
                }
            }
        }
        for key in waiting {
            if self.exchanges.get(key).is_some_and(|one| one.wants_answer()) {
                self.failed(key, BROKE_OFF);
            }
        }
    }

    /// How many connections carry a request.
    pub fn busy(&self, of: Of) -> usize {
        self.models.iter().filter(|model| model.of == of && model.exchange != Key::NONE).count()
    }
}
