//! One kept-alive connection to the candidate: one request at a time. The pool opens these, hands out requests and ends
//! what is late. Nothing here knows why a request is made.

use super::answer::ShadowAnswer;
use crate::attempt::Attempt;
use crate::capture::Captured;
use crate::poll::{Poll, Token};
use crate::sock::Sock;
use std::io::Write;

/// A captured request that the candidate is to be asked.
pub struct Request {
    pub captured: Box<Captured>,
    /// Bytes that are held for it; what came of the answer is added.
    pub size: usize,
    /// For the second time: the connection was closed in the face of the first.
    pub again: bool,
}

const VERSION: &[u8] = b" HTTP/1.1\r\n";
const LENGTH: &[u8] = b"Content-Length: ";
const BLANK: &[u8] = b"\r\n\r\n";
const LONGEST_FRAMING: usize = LENGTH.len() + 20 + BLANK.len();

pub struct ShadowConnection {
    pub sock: Sock,
    /// Until it is connected.
    pub attempt: Option<Attempt>,
    /// What is asked; none: it is idle.
    pub request: Option<Request>,
    /// When it was asked, or became idle.
    pub since: f64,
    /// It has answered a request before.
    pub served: bool,
    /// Not all of what was written can have arrived.
    pub broken: bool,
    pub answer: ShadowAnswer,
}

impl ShadowConnection {
    pub fn new(mut sock: Sock, attempt: Attempt, now: f64) -> Self {
        sock.read_on(true);
        Self {
            sock,
            attempt: Some(attempt),
            request: None,
            since: now,
            served: false,
            broken: false,
            answer: ShadowAnswer::new(),
        }
    }

    /// Send at once what the candidate takes.
    pub fn ask(&mut self, request: Request, prefix: &[u8], now: f64, poll: &Poll, token: Token) {
        self.since = now;
        let captured = &*request.captured;
        let mut framing = [0; LONGEST_FRAMING];
        let mut rest = &mut framing[..];
        let written = rest
            .write_all(LENGTH)
            .and_then(|()| write!(rest, "{}", captured.body.len()))
            .and_then(|()| rest.write_all(BLANK));
        let left = rest.len();
        let framing = &framing[..LONGEST_FRAMING - left];
        self.broken |= written.is_err()
            || !self.sock.write(&[
                &captured.method,
                b" ",
                prefix,
                &captured.target,
                VERSION,
                &captured.headers,
                framing,
                &captured.body,
            ]);
        self.sock.watch(poll, token);
        self.request = Some(request);
    }

    /// At an event for writing. What is broken is told by reading: there may be an answer already.
    pub fn send_on(&mut self, poll: &Poll, token: Token) {
        self.broken |= !self.sock.flush();
        self.sock.watch(poll, token);
    }

    /// The candidate closed the idle connection before the request reached it, as far as can be known.
    pub fn stale(&self) -> bool {
        self.served && !self.answer.received()
    }
}
