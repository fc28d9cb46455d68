//! What becomes of an answer, or of its absence: the user's, the pair's, or the canary's.
//!
//! `model` and `pool` tell what happened to an exchange; from here it is told to the client, to the canary, and handed
//! on for the pair. It must not know sockets.

use crate::canary::Whole;
use crate::capture::LiveAnswer;
use crate::exchange::{Exchange, Failed};
use crate::figures::Drop;
use crate::live::{monotonic, Live};
use crate::poll::Key;

/// Of the bodies that all live processes collect for pairs while the baseline is asked; one alone may be larger.
const HELD_BYTES: usize = 8 << 20;

impl Live {
    /// Bytes of the answer as the client is to get them: head, then body.
    pub fn deliver(&mut self, key: Key, data: &[u8]) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        if exchange.is_leg() {
            exchange.pieces.extend_from_slice(data);
            return;
        }
        if let Some(canary) = &mut exchange.canary {
            if !canary.passes(data) {
                return;
            }
        }
        let client = exchange.client;
        if client != Key::NONE {
            exchange.delivered = true;
            self.client_write(client, data);
        }
    }

    /// The answer has been delivered whole.
    pub fn finished(&mut self, key: Key, received: f64) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let latency = received - exchange.asked_at();
        if exchange.is_leg() {
            let answer = exchange.answer(received - exchange.sent);
            self.leg_ended(key, answer);
            return;
        }
        if exchange.canary.is_some() {
            let answer = exchange.answer(latency);
            self.baseline_answered(key, answer, None);
            return;
        }
        let now = monotonic();
        let (client, complete, keep_alive) = (exchange.client, exchange.complete, exchange.keep_alive);
        self.figures.answered(exchange.sent - exchange.started + now - received, now - exchange.started);
        exchange.client = Key::NONE;
        if exchange.body.is_some() {
            let answer = exchange.answer(latency);
            self.answered(client, complete, keep_alive);
            self.offer(key, answer, None);
            self.end_exchange(key);
        } else {
            self.end_exchange(key);
            self.answered(client, complete, keep_alive);
        }
    }

    /// There will be no answer, or no more of it.
    pub fn failed(&mut self, key: Key, failed: Failed) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.queued = false;
        if exchange.is_leg() {
            let answer = LiveAnswer::failed(failed.failure, now - exchange.started);
            self.leg_ended(key, answer);
            return;
        }
        let asked = exchange.asked_at();
        let waited = now - if asked > 0.0 { asked } else { exchange.started };
        let answer = LiveAnswer::failed(failed.failure, waited);
        if exchange.canary.is_some() {
            exchange.head_sent = true; // what comes behind it must not make it be asked anew
            exchange.unsent = Vec::new();
            self.baseline_answered(key, answer, Some(failed));
            return;
        }
        let had_request = exchange.complete && exchange.sent > 0.0;
        self.end_of_answer(key, Some(failed));
        if self.exchanges.get(key).is_some_and(|one| one.body.is_some()) {
            if had_request {
                self.offer(key, answer, None);
            } else {
                self.forget(key, Drop::NotSent);
            }
        }
        self.end_exchange(key);
    }

    /// Nothing more of the answer will come to the client.
    pub fn end_of_answer(&mut self, key: Key, failed: Option<Failed>) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let client = std::mem::replace(&mut exchange.client, Key::NONE);
        if client == Key::NONE {
            return;
        }
        let (delivered, to_head) = (exchange.delivered, exchange.head.is_head);
        let (complete, keep_alive) = (exchange.complete, exchange.keep_alive);
        let (sent, started) = (exchange.sent, exchange.started);
        self.release_answer(key); // what the client does not read is no reason to leave the rest unread
        match failed {
            Some(failed) => self.unanswered(client, failed.refusal, delivered, to_head),
            None => {
                let now = monotonic();
                self.figures.answered((sent - started).max(0.0), now - started); // 0: the candidate was first
                self.answered(client, complete, keep_alive);
            }
        }
    }

    /// So many bytes more are kept for its pair: each exchange may be within its own bound, and all together too much.
    pub fn hold_bytes(&mut self, key: Key, size: usize) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.held += size;
        self.held += size;
        if self.held > HELD_BYTES / self.settings.workers && self.held > exchange.held {
            self.outgrown(key, Drop::Held);
        }
    }

    fn let_go(&mut self, key: Key) {
        if let Some(exchange) = self.exchanges.get_mut(key) {
            self.held -= std::mem::take(&mut exchange.held);
        }
    }

    pub fn end_exchange(&mut self, key: Key) -> Option<Exchange> {
        self.let_go(key);
        self.exchanges.remove(key)
    }

    /// A body is larger than what a pair may hold, or all of them are.
    pub fn outgrown(&mut self, key: Key, reason: Drop) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        if exchange.is_leg() {
            self.leg_outgrown(key);
            return;
        }
        let canary = exchange.canary.is_some();
        self.forget(key, reason);
        if canary {
            self.outgrown_under_canary(key);
        }
    }

    /// It is not mirrored after all.
    pub fn forget(&mut self, key: Key, reason: Drop) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        if exchange.body.take().is_some() {
            exchange.answer_body = None;
            self.figures.drop(reason, 1);
            self.let_go(key);
        }
    }

    /// The client has left.
    pub fn abandon(&mut self, key: Key) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.client = Key::NONE;
        if exchange.canary.is_some() {
            self.abandon_canary(key);
        }
        self.forget(key, Drop::ClientLeft);
        self.withdraw(key);
        self.end_exchange(key);
    }

    /// The candidate's leg has its end: the pair's half of it, and what the user may get.
    fn leg_ended(&mut self, key: Key, answer: LiveAnswer) {
        let Some(leg) = self.end_exchange(key) else { return };
        let whole = Whole { answer, pieces: leg.pieces, keep_alive: leg.keep_alive };
        self.candidate_answered(leg.leg_of, whole);
    }
}
