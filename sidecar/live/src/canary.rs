//! A user's request under a canary weight: the candidate is asked on the live path, and the baseline too.
//!
//! The user gets the candidate's answer, unless it is an error, malformed, or later than the baseline's by more than the
//! grace: then the baseline's. Until that is settled the baseline's answer is held. Either way both answers make a pair.
//! After some failures in a row no user's request goes to the candidate for a while, lest each of them wait out the grace
//! in vain; they are mirrored like all others. It must not know how a share or a weight is decided.

use crate::capture::{Failure, LiveAnswer};
use crate::exchange::{Exchange, Failed, Of};
use crate::figures::Given;
use crate::live::Live;
use crate::poll::Key;
use serde::de::IgnoredAny;

/// What a leg ended with.
pub struct Whole {
    pub answer: LiveAnswer,
    /// As the user would get it.
    pub pieces: Vec<u8>,
    pub keep_alive: bool,
}

pub struct Canary {
    /// The pair goes to the scorer.
    record: bool,
    given: Option<Given>,
    leg: Key,
    asked: bool,
    /// Of the baseline's answer.
    held: Vec<u8>,
    baseline: Option<LiveAnswer>,
    baseline_failed: Option<Failed>,
    candidate: Option<LiveAnswer>,
}

impl Canary {
    pub fn new(record: bool) -> Self {
        Self {
            record,
            given: None,
            leg: Key::NONE,
            asked: false,
            held: Vec::new(),
            baseline: None,
            baseline_failed: None,
            candidate: None,
        }
    }

    /// Whether a piece of the baseline's answer goes to the user now.
    pub fn passes(&mut self, data: &[u8]) -> bool {
        if self.given.is_none() {
            self.held.extend_from_slice(data);
        }
        self.given.is_some_and(|given| given != Given::Candidate)
    }
}

/// The first value of a header in lines `name: value\r\n`.
fn header<'a>(lines: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

/// Why a candidate's answer must not be given to a user; None if it may.
pub fn fault(answer: &LiveAnswer) -> Option<Given> {
    match answer.failure {
        Some(Failure::Timeout) => return Some(Given::Timeout),
        Some(Failure::Refused) => return Some(Given::Refused),
        Some(Failure::Undecodable) => return Some(Given::Malformed),
        Some(Failure::TooLarge) => return Some(Given::TooLarge),
        None => {}
    }
    if !(200..300).contains(&answer.status) {
        return Some(Given::Error);
    }
    let kind = header(&answer.headers, b"content-type").unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with(b"text/html") {
        return Some(Given::Malformed); // a proxy's page, or a framework's: no model answers so
    }
    let coded = header(&answer.headers, b"content-encoding").is_some_and(|coding| !coding.is_empty());
    if memchr::memmem::find(&kind, b"json").is_some() && answer.status != 204 && !coded {
        // Binary tensors follow their JSON; a bare NaN is no JSON, and no answer for a user.
        let prefix = header(&answer.headers, b"inference-header-content-length");
        let length = prefix.filter(|text| text.iter().all(u8::is_ascii_digit) && !text.is_empty());
        let json = match length.and_then(|text| std::str::from_utf8(text).ok()).map(str::parse::<usize>) {
            Some(Ok(length)) => &answer.body[..length.min(answer.body.len())],
            Some(Err(_)) => return Some(Given::Malformed), // more than there can be
            None => &answer.body[..],
        };
        if serde_json::from_slice::<IgnoredAny>(json).is_err() {
            return Some(Given::Malformed);
        }
    }
    None
}

impl Live {
    /// The request is whole: ask the candidate, too, once.
    pub fn ask_candidate_when_whole(&mut self, key: Key) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let complete = exchange.complete;
        let Some(canary) = &mut exchange.canary else { return };
        if !complete || canary.asked || canary.given.is_some() {
            return; // it may have been settled already: too large, or answered before it was whole
        }
        canary.asked = true;
        let (Some(body), true) = (&exchange.body, self.candidate.is_some()) else {
            self.settle(key, Given::Refused, None);
            return;
        };
        let mut leg = Exchange::new(Key::NONE, exchange.head.clone(), self.now);
        leg.leg_of = key;
        leg.of = Of::Candidate;
        leg.keep_alive = exchange.keep_alive;
        leg.minted = exchange.minted;
        leg.id.clone_from(&exchange.id);
        leg.complete = true;
        leg.answer_body = Some(Vec::new());
        leg.room = exchange.room;
        leg.head_sent = true; // it is part of what is unsent, framed for a body that is whole
        exchange.head.to_candidate(self.forward_credentials, body.len(), &mut leg.unsent);
        leg.unsent.extend_from_slice(body);
        let leg = self.exchanges.insert(leg);
        if let Some(canary) = self.canary(key) {
            canary.leg = leg;
        }
        self.dispatch(leg);
    }

    fn canary(&mut self, key: Key) -> Option<&mut Canary> {
        self.exchanges.get_mut(key)?.canary.as_deref_mut()
    }

    // -- what the baseline's connection tells

    pub fn baseline_answered(&mut self, key: Key, answer: LiveAnswer, failed: Option<Failed>) {
        let Some(complete) = self.exchanges.get(key).map(|exchange| exchange.complete) else { return };
        let due = self.now + self.standing.instructions.grace;
        let Some(canary) = self.canary(key) else { return };
        canary.baseline = Some(answer);
        canary.baseline_failed = failed;
        if canary.given.is_none() && !complete {
            self.settle(key, Given::Unasked, None);
        } else if canary.given.is_none() {
            self.graces.push((due, key));
        } else {
            self.conclude(key);
        }
    }

    /// The request, or the baseline's answer, is too large to be held.
    pub fn outgrown_under_canary(&mut self, key: Key) {
        let Some(canary) = self.canary(key) else { return };
        canary.record = false;
        if canary.given.is_none() {
            self.settle(key, Given::TooLarge, None);
        }
    }

    /// The client has left.
    pub fn abandon_canary(&mut self, key: Key) {
        let Some(canary) = self.canary(key) else { return };
        canary.record = false;
        let leg = canary.leg;
        if canary.given.is_none() {
            canary.given = Some(Given::Refused);
            self.breaker.undecided();
        }
        self.withdraw(leg);
        self.end_exchange(leg);
    }

    // -- what the candidate's tells

    pub fn leg_outgrown(&mut self, key: Key) {
        let now = self.now;
        let Some(leg) = self.exchanges.get(key) else { return };
        let answer = LiveAnswer::failed(Failure::TooLarge, now - leg.sent);
        let (of, keep_alive) = (leg.leg_of, leg.keep_alive);
        self.withdraw(key);
        self.end_exchange(key);
        self.candidate_answered(of, Whole { answer, pieces: Vec::new(), keep_alive });
    }

    pub fn candidate_answered(&mut self, key: Key, whole: Whole) {
        let why = fault(&whole.answer);
        let Some(canary) = self.canary(key) else { return };
        let settled = canary.given.is_some();
        canary.leg = Key::NONE;
        canary.candidate = Some(whole.answer);
        if settled {
            self.conclude(key);
        } else {
            let answer = (whole.pieces, whole.keep_alive);
            self.settle(key, why.unwrap_or(Given::Candidate), Some(answer));
        }
    }

    // -- the decision

    /// Those for which the grace is over.
    pub fn end_graces(&mut self) {
        let now = self.now;
        let mut over = Vec::new();
        self.graces.retain(|(due, key)| {
            let waits = now < *due;
            if !waits {
                over.push(*key);
            }
            waits
        });
        for key in over {
            if self.canary(key).is_some_and(|canary| canary.given.is_none()) {
                self.settle(key, Given::Late, None);
            }
        }
    }

    fn settle(&mut self, key: Key, given: Given, candidate: Option<(Vec<u8>, bool)>) {
        let Some(canary) = self.canary(key) else { return };
        canary.given = Some(given);
        let held = std::mem::take(&mut canary.held);
        let broke_off = canary.baseline_failed.is_some();
        let asked_wrongly =
            given == Given::Error && canary.candidate.as_ref().is_some_and(|answer| answer.status < 500);
        self.figures.count_canary(given);
        match given {
            Given::Candidate => self.breaker.succeeded(),
            // Of which a user's request says nothing about the candidate.
            Given::TooLarge | Given::Unasked => self.breaker.undecided(),
            _ if asked_wrongly => self.breaker.undecided(),
            _ => {
                self.breaker.failed(self.now);
            }
        }
        match candidate {
            Some((pieces, keep_alive)) if given == Given::Candidate => self.give(key, &pieces, keep_alive),
            _ if !held.is_empty() && !broke_off => self.deliver(key, &held),
            _ => {} // of an answer that broke off, nothing was said yet
        }
        self.conclude(key);
    }

    /// The candidate's answer, whole. The baseline's is still awaited, for the pair.
    fn give(&mut self, key: Key, pieces: &[u8], keep_alive: bool) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.keep_alive = keep_alive;
        if exchange.client != Key::NONE {
            exchange.delivered = true;
            let client = exchange.client;
            self.client_write(client, pieces);
            self.end_of_answer(key, None);
        }
    }

    /// Whatever is due now: the end of the baseline's answer to the user, the pair, the end of it all.
    fn conclude(&mut self, key: Key) {
        let Some(canary) = self.canary(key) else { return };
        if canary.baseline.is_none() {
            return;
        }
        let failed = canary.baseline_failed;
        if canary.given != Some(Given::Candidate) {
            self.end_of_answer(key, failed);
        }
        let Some(canary) = self.canary(key) else { return };
        if canary.leg != Key::NONE {
            return; // the other half of the pair is still to come
        }
        let record = canary.record;
        if let (true, Some(baseline), Some(candidate)) = (record, canary.baseline.take(), canary.candidate.take()) {
            self.offer(key, baseline, Some(candidate));
        }
        self.end_exchange(key);
    }
}
