//! One request and its answer, between a client and a model: what is still to be sent, kept and told.
//!
//! `client` makes one of a user's request, `canary` one more where the candidate is asked on the live path (a leg);
//! `model` sends it and delivers the answer. It must not know sockets.

use crate::canary::Canary;
use crate::capture::{Failure, LiveAnswer};
use crate::head::{Refusal, RequestHead};
use crate::poll::Key;

/// Of a request's bytes, kept until the answer begins, for a connection that turns out to have been closed.
pub const REPLAY_BYTES: usize = 256 << 10;

/// Why there is no answer: what the client is told, and what the pair says.
#[derive(Clone, Copy)]
pub struct Failed {
    pub refusal: Refusal,
    pub failure: Failure,
}

pub const UNREACHABLE: Failed = Failed { refusal: Refusal::BadGateway, failure: Failure::Refused };
pub const BROKE_OFF: Failed = Failed { refusal: Refusal::BadGateway, failure: Failure::Refused };
pub const MALFORMED: Failed = Failed { refusal: Refusal::BadGateway, failure: Failure::Undecodable };
pub const TOO_LATE: Failed = Failed { refusal: Refusal::GatewayTimeout, failure: Failure::Timeout };
pub const OVERLOADED: Failed = Failed { refusal: Refusal::NoRoom, failure: Failure::Refused };

/// Which pool of connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    Baseline,
    Candidate,
}

pub struct Exchange {
    /// Who waits for the answer; NONE: nobody any more, or it is a leg.
    pub client: Key,
    /// The user's exchange that this is the candidate's leg of, else NONE.
    pub leg_of: Key,
    pub head: RequestHead,
    pub of: Of,
    pub connection: Key,
    /// It waits for a connection.
    pub queued: bool,
    pub started: f64,
    /// When a byte last moved.
    pub activity: f64,
    /// When its first byte went to the model.
    pub sent: f64,
    /// When its last did, where that was later: the model's time counts from there.
    pub asked: f64,
    pub head_sent: bool,
    /// Of the body as it is sent on, what has not been.
    pub unsent: Vec<u8>,
    /// What has been, for one more try; None: not all of it is there any more, or there was one already.
    pub kept: Option<Vec<u8>>,
    /// The request has been read to its end.
    pub complete: bool,
    /// With the client: decides what the answer's head says.
    pub keep_alive: bool,
    /// The answer has begun to arrive.
    pub begun: bool,
    /// The client has got some of the answer.
    pub delivered: bool,
    pub status: u16,
    pub answer_headers: Vec<u8>,
    /// Collected for the pair; None: it is not wanted.
    pub answer_body: Option<Vec<u8>>,
    /// The request's, collected for the copy; None: it is not mirrored.
    pub body: Option<Vec<u8>>,
    /// Bytes that either may have.
    pub room: usize,
    /// Bytes of both that count among those of all exchanges, until they are handed on or let go.
    pub held: usize,
    pub id: String,
    pub minted: bool,
    /// Of arrival, since the epoch, where it is mirrored.
    pub time: f64,
    pub canary: Option<Box<Canary>>,
    /// A leg's answer as the client would get it.
    pub pieces: Vec<u8>,
}

impl Exchange {
    pub fn new(client: Key, head: RequestHead, now: f64) -> Self {
        Self {
            client,
            leg_of: Key::NONE,
            keep_alive: head.keep_alive,
            head,
            of: Of::Baseline,
            connection: Key::NONE,
            queued: false,
            started: now,
            activity: now,
            sent: 0.0,
            asked: 0.0,
            head_sent: false,
            unsent: Vec::new(),
            kept: Some(Vec::new()),
            complete: false,
            begun: false,
            delivered: false,
            status: 0,
            answer_headers: Vec::new(),
            answer_body: None,
            body: None,
            room: 0,
            held: 0,
            id: String::new(),
            minted: false,
            time: 0.0,
            canary: None,
            pieces: Vec::new(),
        }
    }

    pub fn is_leg(&self) -> bool {
        self.leg_of != Key::NONE
    }

    /// False when nobody waits for the answer any more: neither a client nor a pair.
    pub fn wants_answer(&self) -> bool {
        self.is_leg() || self.client != Key::NONE || (self.canary.is_some() && self.body.is_some())
    }

    /// There is something for the model.
    pub fn has_unsent(&self) -> bool {
        !self.head_sent || !self.unsent.is_empty()
    }

    /// What was unsent has been sent.
    pub fn was_sent(&mut self) {
        self.head_sent = true;
        let sent = std::mem::take(&mut self.unsent);
        match &mut self.kept {
            Some(kept) if kept.is_empty() && sent.len() <= REPLAY_BYTES => *kept = sent,
            Some(kept) if kept.len() + sent.len() <= REPLAY_BYTES => kept.extend_from_slice(&sent),
            kept => *kept = None,
        }
    }

    /// Make everything unsent again; false when it is not all there any more.
    pub fn rewind(&mut self) -> bool {
        if self.begun {
            return false;
        }
        let Some(mut kept) = self.kept.take() else { return false }; // one more try, not two
        kept.append(&mut self.unsent);
        self.unsent = kept;
        self.head_sent = self.is_leg(); // a leg's own is part of what was kept
        self.asked = 0.0;
        self.connection = Key::NONE;
        true
    }

    /// When the model had been asked, as far as it has been.
    pub fn asked_at(&self) -> f64 {
        if self.asked > 0.0 {
            self.asked
        } else {
            self.sent
        }
    }

    /// What the model said, for the pair.
    pub fn answer(&mut self, latency: f64) -> LiveAnswer {
        LiveAnswer {
            failure: None,
            status: self.status,
            latency,
            headers: std::mem::take(&mut self.answer_headers),
            body: self.answer_body.as_mut().map(std::mem::take).unwrap_or_default(),
        }
    }
}
